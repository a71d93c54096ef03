"""What a person fills into `requests.csv` where it lies is never lost."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from presel_lightning.annotators import read_answers
from tests.review.runs import BUDGET, make_photos, select


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """A run that waits for the instructions of its selection."""
    make_photos(tmp_path / "photos")
    assert select(tmp_path / "photos", tmp_path / "run") == 3
    return tmp_path / "run"


def read(run: Path) -> list[dict[str, str]]:
    with (run / "selection" / "requests.csv").open(encoding="utf-8-sig", newline="") as handle:
        return list(csv.DictReader(handle))


def fill(run: Path, number: int, question: str, answer: str, *, joint: str = ",") -> str:
    """Fill in a row as a spreadsheet does; its uid."""
    rows = read(run)
    rows[number] |= {"question": question, "answer": answer}
    path = run / "selection" / "requests.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as handle:
        table = csv.DictWriter(handle, list(rows[0]), delimiter=joint)
        table.writeheader()
        table.writerows(rows)
    return rows[number]["uid"]


def words(run: Path, uid: str) -> list[tuple[str, str]]:
    return [(row["question"], row["answer"]) for row in read(run) if row["uid"] == uid]


def test_filled_rows_stay_over_other_budgets_until_they_are_used(
    waiting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, table = waiting.parent / "photos", waiting / "selection" / "requests.csv"
    first = {row["uid"] for row in read(waiting)}
    whole = fill(waiting, 0, "What is it?", "Noise; in colours.")
    half = fill(waiting, 1, "Where?", "", joint=";")
    assert select(photos, waiting, "--data.budget", "20") == 3
    assert len(read(waiting)) == 20
    later = next(n for n, row in enumerate(read(waiting)) if row["uid"] not in first)
    beyond = fill(waiting, later, "How many?", "None.")
    capsys.readouterr()
    assert select(photos, waiting) == 3
    assert f"--annotator.init_args.path {table}" in capsys.readouterr().err
    assert len(read(waiting)) == BUDGET + 1
    kept = {whole: ("What is it?", "Noise; in colours."), half: ("Where?", ""), beyond: ("How many?", "None.")}  # fmt: skip
    assert {uid: words(waiting, uid) for uid in kept} == {uid: [row] for uid, row in kept.items()}
    use = ["--annotator", "FromFile", "--annotator.init_args.path", str(table)]
    assert select(photos, waiting, "--data.budget", "20", *use) == 3
    assert set(read_answers(waiting / "annotations")) == {whole, beyond}
    assert words(waiting, whole) == words(waiting, beyond) == []
    assert words(waiting, half) == [("Where?", "")]


def test_answers_to_images_of_a_renamed_folder_are_reported(
    waiting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, rows = waiting.parent / "photos", read(waiting)
    signs = next(number for number, row in enumerate(rows) if row["task"] == "signs")
    fill(waiting, signs, "What is it?", "Noise.")
    table = str(waiting / "selection" / "requests.csv")
    use = ["--annotator", "FromFile", "--annotator.init_args.path", table]
    assert select(photos, waiting, *use) == 3
    assert "of no image of this pool" not in capsys.readouterr().err
    (photos / "signs").rename(photos / "boards")
    assert select(photos, waiting) == 3
    said = capsys.readouterr().err
    assert (
        f"1 of the answers in {waiting / 'annotations' / 'answers.jsonl'} are of no image" in said
    )
    (photos / "boards").rename(photos / "signs")
    assert select(photos, waiting) == 3
    said = capsys.readouterr().err
    assert f"{BUDGET - 1} of {BUDGET}" in said and "of no image" not in said


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("question,answer,uid\nGröße?,groß,x\n".encode("latin-1"), "cannot be read"),
        (b"question,answer\nWhat?,That\n", "no column uid"),
    ],
    ids=["latin-1", "column"],
)
def test_table_that_cannot_be_read_is_not_written_over(
    content: bytes, cause: str, waiting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = waiting / "selection" / "requests.csv"
    table.write_bytes(content)
    assert select(waiting.parent / "photos", waiting, "--data.budget", "20") == 2
    said = capsys.readouterr().err
    assert f"{table}: {cause}" in said and "move it away" in said
    assert table.read_bytes() == content
    table.rename(waiting / "mine.csv")
    assert select(waiting.parent / "photos", waiting, "--data.budget", "20") == 3
    assert len(read(waiting)) == 20
