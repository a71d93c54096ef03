from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from presel_lightning.data import build_pool, json_records, load_pool, source
from presel_lightning.data.annotations import read_records
from presel_lightning.data.json_records import json_entries
from presel_lightning.errors import UserError

SOUND = '{"id": "%d", "image": "a.png", "task": "t", "conversations": []}'
FAULTY = {
    '{"id": 5, "image": "a.png", "task": "t", "phash": 123456789012345678901234}': "bad_number",
    '{"id": 5, "image": "a.png", "task": "t", "size": 1e999}': "bad_number",
    '{"id": 5, "image": "a.png", "task": "t", "size": NaN}': "bad_number",
    '{"id": 5, "image": "a.png", "task": "t", "size": %s}' % ("9" * 5000): "bad_number",
    '{"id": 5, "image": "a.png", "task": "t", "query": "Q", "response": "A"}': "other_form",
    '{"id": "\\ud800", "image": "a.png", "task": "t"}': "not_unicode",
    '{"id": 5, "id": 6, "image": "a.png", "task": "t"}': "repeated_key",
    '{"id": 5, "image": "a.png", "task": "t", "deep": %s}' % ("[" * 101 + "]" * 101): "too_deep",
    '{"id": 5, "image": "a.png", "deep": %s}' % ("[" * 9000 + "]" * 9000): "too_deep",
    '{"id": 5, "image": "a.png", "task": "t", "text": "%s"}' % ("x" * (1 << 24)): "too_large",
    '{"id": 5, "image": "a.png", "task": }': "not_json",
    "[1, [2]]": "not_a_record",
    "null": "not_a_record",
    "17": "not_a_record",
}
DEEP_ENOUGH = '{"id": 5, "image": "a.png", "task": "t", "deep": %s}' % ("[" * 99 + "]" * 99)


def pool_of(path: Path, out: Path) -> tuple[list[str], list[dict[str, str]]]:
    Image.new("RGB", (4, 4)).save(path.parent / "a.png")
    counts = build_pool(source(str(path)), out)
    with (out / "problems.csv").open(encoding="utf-8", newline="") as handle:
        listed = list(csv.DictReader(handle))
    assert counts.problems == len(listed)
    return sorted(load_pool(out, path.parent).id), listed


@pytest.mark.parametrize("form", ["list", "lines"])
def test_each_faulty_record_is_one_problem_with_file_and_number(tmp_path: Path, form: str) -> None:
    texts = [SOUND % number for number in range(len(FAULTY))]
    texts = [text for pair in zip(texts, FAULTY, strict=True) for text in pair]
    path = tmp_path / "a.json"
    path.write_text("[" + ",\n".join(texts) + "]" if form == "list" else "\n".join(texts))
    ids, listed = pool_of(path, tmp_path / "out")
    assert ids == sorted(str(number) for number in range(len(FAULTY)))
    found = {int(row["record"]): (row["file"], row["problem"]) for row in listed}
    expected = {2 * n + 2: ("a.json", problem) for n, problem in enumerate(FAULTY.values())}
    assert found == expected and all(row["detail"] for row in listed)
    assert listed[0].keys() >= {"file", "record"} and list(listed[0])[:5] == [
        *("id", "image", "task", "problem", "detail")
    ]


def test_bytes_that_are_no_utf8_end_one_record_only(tmp_path: Path) -> None:
    sound = (SOUND % 1).encode()
    faulty = sound.replace(b'"1"', b'"\xff"')
    for name, content in (
        ("a.jsonl", b"\n".join([sound, faulty, sound])),
        ("a.json", b"[" + b",".join([sound, faulty, sound]) + b"]"),
    ):
        (tmp_path / name).write_bytes(content)
        faults = [entry.fault for entry in json_entries(tmp_path / name)]
        assert faults[0] is faults[2] is None
        assert faults[1] and faults[1].problem == "not_unicode"


def test_levels_up_to_the_limit_are_kept_and_written(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f"[{DEEP_ENOUGH}]")
    ids, listed = pool_of(tmp_path / "a.json", tmp_path / "out")
    assert ids == ["5"] and not listed


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[{"id": 1},\n {"id": 2}', "line 2, record 2"),
        ('[{"id": 1},\n {"id": 2, "te', "line 2, record 2"),
        ('[{"id": 1},\n {"id": 2},\n{"id": "', "line 3, record 3"),
        ('[{"id": 1} {"id": 2}]', "line 1, record 1"),
        ('[{"id": 1}}, {"id": 2}]', "line 1, record 1"),
        ("[", "record 1"),
    ],
)
def test_list_that_breaks_off_is_refused_with_line_and_record(
    tmp_path: Path, text: str, place: str
) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=f"a.json, .*{place}.*fetch or write the file again"):
        list(json_entries(tmp_path / "a.json"))


def test_json_lines_may_begin_with_a_faulty_line(tmp_path: Path) -> None:
    for first in ("[1]", '[{"id": 7}', "x", "]"):
        (tmp_path / "a.json").write_text("\n".join([first, SOUND % 1, SOUND % 2]))
        entries = list(json_entries(tmp_path / "a.json"))
        assert [bool(entry.fault) for entry in entries] == [True, False, False], first
        assert [entry.number for entry in entries] == [1, 2, 3]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (
            ['{"id": 1, "query": "Q", "response": "A"}'] * 3 + [SOUND % 1],
            "`query`.*3 of the first 4",
        ),
        (["{"] * 3, "line 1.*not_json"),
        (["17", SOUND % 1, "null"], "line 1.*object.*not_a_record"),
    ],
)
def test_file_is_refused_where_most_of_its_first_records_are_wrong(
    tmp_path: Path, texts: list[str], said: str
) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(texts))
    with pytest.raises(UserError, match=said):
        build_pool(source(str(tmp_path / "a.jsonl")), tmp_path / "out")


def test_read_records_refuses_what_a_pool_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f"[{SOUND % 1}, 17]")
    with pytest.raises(UserError, match=r"a\.json, record 2: .*object.*not_a_record"):
        list(read_records(tmp_path / "a.json"))


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=6,
)


@settings(max_examples=30)
@given(
    st.lists(st.dictionaries(TEXT, JSON), max_size=4),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
)
def test_list_is_read_whatever_the_size_of_its_pieces(
    records: list[dict[str, Any]], chunk: int, indent: int | None
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_records, "CHUNK", chunk)
        path = Path(folder, "a.json")
        path.write_text(json.dumps(records, indent=indent, ensure_ascii=False), encoding="utf-8")
        read = list(json_entries(path))
    assert [(entry.record, entry.fault) for entry in read] == [(each, None) for each in records]


def test_list_on_one_line_is_a_list_wherever_the_first_piece_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in front of a brace, where a second line of JSON lines would begin."""
    text = json.dumps([{"id": 1, "texts": []}, {"id": 2}])
    (tmp_path / "a.json").write_text(text)
    for size in range(1, len(text) + 1):
        monkeypatch.setattr(json_records, "CHUNK", size)
        assert [entry.record["id"] for entry in json_entries(tmp_path / "a.json")] == [1, 2]
