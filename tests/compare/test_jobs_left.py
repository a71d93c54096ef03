"""What is left of a comparison, on literal numbers."""

from __future__ import annotations

from presel_lightning.compare.cells import Cell, Entry
from presel_lightning.compare.jobs_left import CELLS, SPLITS, JobsLeft, amount_of
from presel_lightning.run.time_left import PlannedWork


def test_outlook_of_cells_goes_by_the_samples_they_train_on() -> None:
    ahead = [
        PlannedWork("seed 0", SPLITS, 1),
        PlannedWork("a", CELLS, 100),
        PlannedWork("b", CELLS, 200),
    ]
    ahead += [PlannedWork("full-1-0", CELLS, 900), PlannedWork("full-1-1", CELLS, 900)]
    jobs_left = JobsLeft(ahead, workers=2)
    assert jobs_left.end("seed 0", 30) == "0 to go", "no cell was seen, and no split is left"
    # 1 s a sample: 200 + 900 + 900 samples, two at a time
    assert jobs_left.end("a", 100) == "3 to go, about 17 min left"
    assert jobs_left.end("b", 5, failed=True) == "2 to go, about 15 min left"
    # (100 + 1700) s for 1000 samples; one job alone cannot be divided
    assert jobs_left.end("full-1-0", 1700) == "1 to go, about 27 min left"
    assert jobs_left.end("full-1-1", 1700) == "0 to go"


def test_amount_of_a_cell_is_its_budget_unless_all_take_equal_steps() -> None:
    entry = Entry("a", {"class_path": "Random"})
    assert amount_of(Cell(entry, 0.25, 0), 130, equal_steps=False) == 32
    assert amount_of(Cell(entry, 50, 0), 130, equal_steps=False) == 50
    assert amount_of(Cell(entry, 0.25, 0), 130, equal_steps=True) == 1
