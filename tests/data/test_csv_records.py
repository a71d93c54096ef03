from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from presel_lightning.data import build_pool, load_pool, source
from presel_lightning.data.annotations import read_records
from presel_lightning.data.csv_records import csv_entries
from presel_lightning.errors import UserError
from tests.data.memory import risen


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


@pytest.mark.parametrize(
    ("name", "mark"), [("a.csv", ","), ("a.CSV", ";"), ("a.csv", "\t"), ("a.tsv", "\t")]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_consecutive_rows_form_one_conversation(
    tmp_path: Path, name: str, mark: str, encoding: str
) -> None:
    rows = [
        ("image", "id", "task", "question", "answer", "place"),
        ("a.jpg", "1", "vqa", "What is it?", "Eine\nTür", "ü"),
        ("a.jpg", "1", "vqa", "Where?", "here", "ü"),
        ("a.jpg", "2", "vqa", "", "", ""),
        ("a.jpg", "1", "caption", "Look at <image>.", "a door", ""),
        ("a.jpg", "1", "vqa", "And then?", "", ""),
    ]
    text = io.StringIO()
    csv.writer(text, delimiter=mark).writerows(rows)
    path = write(tmp_path / name, text.getvalue(), encoding)
    first = [human("<image>\nWhat is it?"), gpt("Eine\nTür"), human("Where?"), gpt("here")]
    common = {"image": "a.jpg", "task": "vqa"}
    assert list(read_records(path)) == [
        {**common, "id": "1", "place": "ü", "conversations": first},
        {**common, "id": "2", "place": "", "conversations": []},
        {
            **common,
            "id": "1",
            "task": "caption",
            "place": "",
            "conversations": [human("Look at <image>."), gpt("a door")],
        },
        {**common, "id": "1", "place": "", "conversations": [human("<image>\nAnd then?"), gpt("")]},
    ]


def test_csv_with_image_column_alone_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "image,kind\r\nx.jpg,a\r\n\r\nx.jpg,a\r\ny.jpg,b\r\n")
    x, y = {"image": "x.jpg", "kind": "a"}, {"image": "y.jpg", "kind": "b"}
    assert list(read_records(path, "kind")) == [x, x, y]


def test_csv_invalid_rows_are_listed_and_the_others_kept(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    lines = [
        "image,id,task,question,answer",
        "a.jpg,1,t,Q,A",
        "a.jpg,2,t,Q",
        "a.jpg,3,t,Q,A,more",
        'a.jpg,4,t,Q,"A"B',
        "a.jpg,5,t,Q,",
        ",6,t,Q,A",
        "../a.jpg,7,t,Q,A",
        "b.jpg,8,t,Q,A",
        "a.jpg,9,,Q,A",
        "a.jpg,10,t,,A",
        "a.jpg,11,t,Q,A",
    ]
    path = tmp_path / "a.csv"
    path.write_bytes("\n".join(lines).encode() + b"\na.jpg,12,t,Q,\xff\n")
    counts = build_pool(source(str(path)), tmp_path / "out")
    assert sorted(load_pool(tmp_path / "out", tmp_path).id) == ["1", "10", "11"]
    assert counts.by_problem == {
        "bad_row": 3,
        "missing": 1,
        "unknown_task": 1,
        "empty_answer": 1,
        "image_not_a_path": 1,
        "outside_root": 1,
        "not_unicode": 1,
    }
    with (tmp_path / "out" / "problems.csv").open() as handle:
        listed = {row["record"]: row for row in csv.DictReader(handle)}
    for line, reason in (("3", "4 cells for 5"), ("4", "6 cells for 5"), ("5", "',' expected")):
        assert reason in listed[line]["detail"] and listed[line]["file"] == "a.csv"
        assert listed[line]["image"] == "a.jpg"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,task\n", "no column `image`.*'file', 'task'"),
        ("", "no column `image`"),
        ("image,image,task\n", "one name"),
        ("image,task,question\n", "without the other"),
        ("image,label\n", "no column 'task'.*image, label.*data.task_key"),
        ("\ufffe\x00i\x00m", "no column `image`.*UTF-8"),
    ],
)
def test_csv_invalid_header_error_names_the_columns(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(UserError, match=said) as error:
        source(str(path))
    assert "a.csv" in str(error.value) and "\n" not in str(error.value)


def test_task_files_csv_needs_no_task_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "image\na.jpg\n")
    where = source("unused", task_files={"vqa": str(path)})
    (entry,) = where.entries()
    assert (entry.record, entry.task) == ({"image": "a.jpg"}, "vqa")


@given(st.lists(st.tuples(st.text(), st.text(min_size=1), st.text()), min_size=1))
def test_csv_writer_output_is_read_back_equal(rows: list[tuple[str, str, str]]) -> None:
    import tempfile

    rows = [tuple(cell.replace("\r", " ") for cell in row) for row in rows]  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        text = io.StringIO()
        csv.writer(text).writerows([("id", "image", "task"), *rows])
        path = write(Path(folder) / "a.csv", text.getvalue(), "utf-8")
        found = [tuple(record.values()) for record in read_records(path)]
    assert found == [tuple(cell.strip() for cell in row) for row in rows]


READER = """
from presel_lightning.data.annotations import read_records
from presel_lightning.data.csv_records import csv_entries
"""


def test_csv_large_file_is_streamed_in_bounded_memory(tmp_path: Path) -> None:
    """200 000 rows are 60 MB of text; read as a list they are far more."""
    with (tmp_path / "a.csv").open("w") as handle:
        handle.write("image,task,question,answer\n")
        handle.writelines(f"{n}.jpg,t,{'q' * 140},{'a' * 140}\n" for n in range(200_000))
    n, used = risen(READER, "sum(1 for _ in read_records(Path(sys.argv[1])))", tmp_path / "a.csv")
    assert n == 200_000 and used < 20, f"{used:.0f} MiB"


def test_read_records_json_without_extension_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "csv", json.dumps([{"image": "a"}]))
    assert list(read_records(path)) == [{"image": "a"}]


ROWS = ["a.jpg,{n},t,Q,A", 'a.jpg,{n},t,"Q, or so","two\nlines, or so"']


@pytest.mark.parametrize(
    ("faulty", "reason"),
    [
        ('a.jpg,x,t,Q,"A', "',' expected"),  # an open quote: the rows behind it are read
        ('a.jpg,x,t,"Q,A', "',' expected"),
        ('a.jpg,x,t,Q,"two\nlines"', ""),
        ('a.jpg,x,t,Q,"two\nlines"more', "',' expected"),
        ('a.jpg,x,t,Q,"two\nlines",more', "6 cells"),
        ('a.jpg,x,t,Q,"' + "A" * 200_000 + '"', "field larger"),
        ("a.jpg", "1 cells"),
    ],
)
def test_csv_faulty_row_ends_no_other(tmp_path: Path, faulty: str, reason: str) -> None:
    rows = [ROWS[n % 2].format(n=n) for n in range(6)]
    text = "\n".join(["image,id,task,question,answer", *rows[:3], faulty, *rows[3:]])
    entries = list(csv_entries(write(tmp_path / "a.csv", text + "\n")))
    assert [e.record["id"] for e in entries if not e.fault and e.record["id"] != "x"] == list(
        "012345"
    )
    faults = [e for e in entries if e.fault]
    assert len(entries) == 7 and [e.number for e in faults] == [6][: bool(reason)]
    assert all(
        e.fault and reason in e.fault.detail and e.fault.problem == "bad_row" for e in faults
    )


def test_csv_open_quote_to_the_end_loses_one_row(tmp_path: Path) -> None:
    text = 'image,id,task\na.jpg,1,t\na.jpg,2,"t\n' + "a.jpg,3,t\n" * 3
    entries = list(csv_entries(write(tmp_path / "a.csv", text)))
    assert [(e.number, bool(e.fault)) for e in entries] == [
        (2, False), (3, True), (4, False), (5, False), (6, False)
    ]  # fmt: skip


def test_csv_faulty_turn_is_a_problem_of_its_conversation(tmp_path: Path) -> None:
    text = "image,id,task,question,answer\na,1,t,Q,A\na,1,t,Q\na,1,t,Q,A\nb,2,t,Q,A\n"
    entries = list(csv_entries(write(tmp_path / "a.csv", text)))
    assert [(e.number, bool(e.fault)) for e in entries] == [(2, True), (5, False)]
