from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightning import Trainer
from PIL import Image

from presel_lightning.data import load_pool
from presel_lightning.data.sizes import count_of
from presel_lightning.errors import UserError
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.selectors import Medoids
from presel_lightning.signals import Signals
from presel_lightning.tasks import FineTune
from tests.conftest import SIZES


@pytest.mark.parametrize(
    ("size", "count"), [(0.15, 72), (1, 480), (1.0, 480), (2, 2), (480, 480), (0.001, 1)]
)
def test_count_of_converts_fraction_or_count(size: float, count: int) -> None:
    assert count_of(size, 480, "data.budget") == count


@given(st.one_of(st.floats(max_value=0), st.floats(min_value=1.001), st.integers(481)))
def test_count_of_invalid_size_raises_user_error(size: float) -> None:
    with pytest.raises(UserError, match=r"data\.budget"):
        count_of(size, 480, "data.budget")


def test_split_reference_is_proportional_to_task_sizes(finished: Path, pool_folder: Path) -> None:
    data = SelectionDataModule(str(pool_folder / "train.json"), reference=0.2, budget=0.5)
    data.pool = load_pool(finished, pool_folder)
    drawn = data.split_reference(0)
    counts = Counter(data.pool.task[data.pool.rows(drawn)])
    assert sum(counts.values()) == len(set(drawn)) == round(0.2 * sum(SIZES.values()))
    assert all(abs(counts[task] - 0.2 * size) < 1 for task, size in SIZES.items())
    assert data.split_reference(0).tolist() == drawn.tolist()
    assert data.split_reference(1).tolist() != drawn.tolist()


def test_max_pixels_over_what_pillow_opens_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.max_pixels is 178956971, .* 178956970"):
        SelectionDataModule(max_pixels=178_956_971)


def test_image_that_grew_over_max_pixels_ends_the_pass(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    """The pool was read with it small."""
    data = SelectionDataModule(str(pool_folder / "train.json"), num_workers=0, max_pixels=10_000)
    data.pool = load_pool(finished, pool_folder)
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    processor = FineTune("quickstart").processor
    uids = data.pool.uid[:1]
    data.pool.image_root = tmp_path
    image = data.pool.image_path(0)
    image.parent.mkdir()
    for side, legal in ((100, True), (101, False)):
        Image.new("RGB", (side, side)).save(image)
        data.train_on(uids, processor, seed=0)
        data.pair_up(uids, processor)
        data.serve([0])
        for loader in (data.train_dataloader(), data.predict_dataloader()):
            if legal:
                assert next(iter(loader))
                continue
            with pytest.raises(UserError, match=r"101x101 is over 10000 pixels.*data\.max_pixels"):
                next(iter(loader))


def test_train_on_images_without_instruction_names_them(photos: Path, tmp_path: Path) -> None:
    data = SelectionDataModule(str(photos), budget=4, num_workers=0)
    pool = data.read_pool(tmp_path / "run")
    assert repr(pool) == f"Pool of {len(pool)} samples in {len(pool.tasks)} tasks"
    with pytest.raises(UserError, match=rf"3 of 3 samples .* no instruction.*{pool.image[0]}"):
        data.train_on(pool.uid[:3], FineTune("quickstart").processor, seed=0)
    with pytest.raises(UserError, match=r"2 of 2 samples .* no instruction"):
        data.pair_up(pool.uid[:2], FineTune("quickstart").processor)


def test_select_needs_a_selector_not_its_name(finished: Path, pool_folder: Path) -> None:
    data = SelectionDataModule(str(pool_folder / "train.json"))
    data.pool = load_pool(finished, pool_folder)
    with pytest.raises(
        UserError, match=r"selector is 'Random'; give an object, such as Random\(\)"
    ):
        data.select("Random", Signals(finished / "signals"), seed=0)  # type: ignore[arg-type]


def test_select_without_its_signal_names_the_command_that_makes_it(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    data = SelectionDataModule(str(pool_folder / "train.json"))
    data.pool = load_pool(finished, pool_folder)
    with pytest.raises(UserError, match=r"`features`.*prepare .*--signals features"):
        data.select(Medoids(), Signals(tmp_path / "signals"), seed=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images of two tasks, without instructions."""
    for n in range(6):
        place = tmp_path / "photos" / f"task{n % 2}" / f"{n}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (40 * n, 0, 0)).save(place)
    return tmp_path / "photos"
