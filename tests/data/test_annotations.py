from __future__ import annotations

import json
from pathlib import Path

import pytest

from presel_lightning.data.annotations import read_records
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
