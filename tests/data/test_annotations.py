from __future__ import annotations

import json
from pathlib import Path

import pytest

from presel_lightning.data.annotations import (
    folder_records,
    read_records,
    refuse_other_form,
)
from presel_lightning.errors import UserError

RECORDS = [{"id": "a", "x": 0.5}, {"id": "ü", "y": [1, {"z": None}]}]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a"])
@pytest.mark.parametrize("start", ["", "\n  ", "\ufeff"])
@pytest.mark.parametrize("lines", [True, False])
def test_read_records_detects_the_format_by_content(
    tmp_path: Path, name: str, start: str, lines: bool
) -> None:
    text = "\n\n".join(map(json.dumps, RECORDS)) if lines else json.dumps(RECORDS)
    (tmp_path / name).write_text(start + text, encoding="utf-8")
    assert list(read_records([tmp_path / name])) == RECORDS


def test_read_records_concatenates_files_in_order(tmp_path: Path) -> None:
    for name, record in zip("ab", RECORDS, strict=True):
        (tmp_path / name).write_text(json.dumps([record]), encoding="utf-8")
    assert list(read_records([tmp_path / "b", tmp_path / "a"])) == RECORDS[::-1]


def test_read_records_numbers_are_float_and_int(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('[{"x": 0.1, "n": 3}]')
    (record,) = read_records(tmp_path / "a")
    assert type(record["x"]) is float and type(record["n"]) is int


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[{"id": 1},\n {"id": }]', "line 2"),
        ('[{"id": 1}', "line 1"),
        ('[{"id": 1}] tail', "line 1"),
        ('{"id": 1}\n{"id": }\n', "line 2"),
        ('{"id": 1}\n[1]\n', "line 2"),
        ('{"id": NaN}\n', "line 1"),
        ('[{"id": 1}, 5]', "record 2"),
        ('{\n"data": []}', "line 1"),
        ("hello", "line 1"),
        (" \n", "is empty"),
    ],
)
def test_read_records_invalid_file_error_names_file_and_place(
    tmp_path: Path, text: str, place: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UserError, match=place) as error:
        list(read_records([path]))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("form", [b'[{"id": "%s"}]', b'{"id": "%s"}'])
def test_read_records_not_utf8_raises_user_error(tmp_path: Path, form: bytes) -> None:
    (tmp_path / "a").write_bytes(form % b"\xff\xfe")
    with pytest.raises(UserError, match="a, "):
        list(read_records([tmp_path / "a"]))


def test_read_records_missing_file_raises_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.json"):
        list(read_records([tmp_path / "nowhere.json"]))


def test_folder_records_flat_folder_is_one_task(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "x.jpg").touch()
    assert list(folder_records(photos)) == [{"id": "x", "image": "x.jpg", "task": "photos"}]


def test_folder_records_are_sorted_and_skip_hidden_files(tmp_path: Path) -> None:
    for name in ("b/x.jpg", "a/sub/y.png", "a/.hidden", ".git/z.jpg", "stray.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    assert list(folder_records(tmp_path)) == [
        {"id": "a/y", "image": "a/sub/y.png", "task": "a"},
        {"id": "b/x", "image": "b/x.jpg", "task": "b"},
        {"id": "linked", "image": "linked"},
        {"id": "stray", "image": "stray.txt"},
    ]


@pytest.mark.parametrize("form", [["messages"], ["conversation"], ["query", "response"]])
def test_record_with_other_tools_keys_raises_user_error(tmp_path: Path, form: list[str]) -> None:
    record = {"id": "1", "image": "a.jpg", **dict.fromkeys(form, "What?")}
    empty: list[object] = [None, []]
    for nothing in empty:
        with pytest.raises(UserError, match=f"a.jpg.*`{form[0]}`.*`conversations`"):
            refuse_other_form({**record, "conversations": nothing}, tmp_path)
    with pytest.raises(UserError):
        refuse_other_form(record, tmp_path)
    refuse_other_form({**record, "conversations": [{"from": "human"}]}, tmp_path)
    refuse_other_form({key: value for key, value in record.items() if key != form[-1]}, tmp_path)
