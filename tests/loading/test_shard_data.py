"""Training from shards by a set of uids: the samples, their order, and a fit that goes on."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback
from PIL import Image
from torch.utils.data import get_worker_info

from presel_lightning.callbacks import StepCheckpoint
from presel_lightning.errors import UserError
from presel_lightning.loading.samplers import ResumableLoader
from presel_lightning.loading.shard_data import ShardDataModule
from presel_lightning.models import LoRA
from presel_lightning.tasks import FineTune
from tests.cli.test_score import png
from tests.fits import Kill, Killed, quiet_trainer
from tests.shards.tars import Files, subset, write_tar

SIZES = [7, 9, 1]


def pair(uid: str, key: str, number: int, image: bytes | None = None) -> tuple[str, Files]:
    color = (20 * number % 256, 90, 200)
    content = image or png(Image.new("RGB", (24, 32), color))
    record = json.dumps({"uid": uid, "key": key}).encode()
    return key, {"png": content, "txt": f"number {number}".encode(), "json": record}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Three shards; a broken image in the second, and in the last the uid of the first sample again."""
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    uids: list[str] = []
    for shard, size in enumerate(SIZES):
        some = [rng.bytes(16).hex() for _ in range(size)]
        samples = [
            pair(uid, f"{shard}{place}", len(uids) + place) for place, uid in enumerate(some)
        ]
        if shard == 1:
            samples[0] = pair(some[0], "10", 7, b"no image")
        if shard == 2:
            samples.append(pair(uids[0], "29", 99))
        write_tar(folder / "tars" / f"{3 * shard:08d}.tar", samples)
        uids += some
    return folder, uids


@pytest.fixture(scope="module")
def tuned() -> FineTune:
    return FineTune("quickstart", tune="none")


def module(pool: tuple[Path, list[str]], uids: str | None = None, **options: Any) -> Any:
    settings = {"template": "vicuna_bare", "batch_size": 4, "num_workers": 0, "seed": 3}
    made = ShardDataModule(
        str(pool[0] / "tars"), uids, **{**settings, **options}, cache=str(pool[0] / "cache")
    )
    made.prepare_data()
    made.setup("fit")
    return made


def seen(loader: ResumableLoader) -> list[list[str]]:
    """Uids of each batch that is still to come, of samples with a weight of their own."""
    loader.collate_fn = rows_of
    return [[uid for uid in batch if uid] for batch in loader]


def rows_of(samples: list[dict[str, Any]]) -> list[str]:
    return [sample["uid"] if sample["weight"] else "" for sample in samples]


def worker_of(samples: list[dict[str, Any]]) -> int:
    worker = get_worker_info()
    return -1 if worker is None else int(worker.id)


def test_subset_files_and_texts_give_the_same_samples_with_their_multiplicity(
    pool: tuple[Path, list[str]], tmp_path: Path
) -> None:
    uids = pool[1]
    wanted = [uids[0], uids[3], uids[3], uids[8], uids[16], "f" * 32]
    listed = tmp_path / "uids.txt"
    listed.write_text("\n".join(wanted))
    for place in (subset(tmp_path / "uids.npy", wanted), listed):
        data = module(pool, str(place))
        found = data.subset
        assert [int(number) for number in found.shard] == [0, 0, 0, 1, 2]
        assert found.repeated == 1  # the first sample's uid in the last shard
    assert len(module(pool).subset) == len(uids)


def test_pairs_are_images_with_their_captions_as_answers(
    pool: tuple[Path, list[str]], tuned: FineTune
) -> None:
    data = module(pool)
    dataset = data.loader(tuned.processor, 0, 1).dataset
    with pytest.warns(UserWarning, match="not_an_image.*weight 0"):
        batch = dataset.collate([dataset[index, 1.0] for index in (7, 2)])
    assert batch["weight"].tolist() == [0.0, 1.0] and batch["pixel_values"].shape[0] == 2
    labels = batch["labels"][1]
    text = tuned.processor.tokenizer.decode(labels[labels >= 0])
    assert "number 2" in text


def test_packed_pairs_fill_rows_and_keep_their_images_and_weights(
    pool: tuple[Path, list[str]], tuned: FineTune
) -> None:
    plain, packs = (
        module(pool, packing=packing, max_length=length).loader(tuned.processor, 0, 1).dataset
        for packing, length in ((False, 2048), (True, 100))
    )
    places = [(index, 1.0 + index) for index in range(6)]
    padded = plain.collate([plain[place] for place in places])
    batch = packs.collate([packs[place] for place in places])
    assert len(batch["input_ids"]) < 6
    order = [int(weight) - 1 for weight in batch["weight"]]
    assert sorted(order) == list(range(6))
    assert torch.equal(batch["pixel_values"], padded["pixel_values"][order])
    for sample, index in enumerate(order):
        own = batch["input_ids"][batch["sample"] == sample]
        assert torch.equal(own, padded["input_ids"][index][padded["attention_mask"][index] == 1])


@pytest.mark.parametrize("window", [0, 1])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_state_gives_the_rest_of_the_epoch_with_any_number_of_workers(
    workers: int, window: int, pool: tuple[Path, list[str]], tuned: FineTune
) -> None:
    data = module(pool, num_workers=workers, window=window)
    whole = seen(data.loader(tuned.processor, 0, 1))
    assert sorted(chain(*whole)) == sorted(set(pool[1]) - {pool[1][7]})
    begun = data.loader(tuned.processor, 0, 1)
    begun.collate_fn = rows_of
    batches = iter(begun)
    assert [[uid for uid in next(batches) if uid] for _ in range(2)] == whole[:2]
    state = begun.state_dict()
    other = module(pool, num_workers=2 - workers, window=window)
    again = other.loader(tuned.processor, 0, 1)
    again.load_state_dict(state)
    assert seen(again) == whole[2:]


def test_ranks_are_disjoint_and_all_workers_are_used(
    pool: tuple[Path, list[str]], tuned: FineTune
) -> None:
    data = module(pool, micro_batch_size=1, num_workers=2)
    ranks = [[*chain(*seen(data.loader(tuned.processor, rank, 2)))] for rank in range(2)]
    assert not set(ranks[0]) & set(ranks[1])
    assert sorted(ranks[0] + ranks[1]) == sorted(set(pool[1]) - {pool[1][7]})
    loader = data.loader(tuned.processor, 0, 1)
    loader.collate_fn = worker_of
    assert set(loader) == {0, 1}


def test_a_window_keeps_the_samples_of_a_shard_together(
    pool: tuple[Path, list[str]], tuned: FineTune
) -> None:
    sampler = module(pool, window=1).loader(tuned.processor, 0, 1).batch_sampler
    orders = [np.concatenate(sampler.batches(epoch)) for epoch in range(2)]
    assert orders[0].tolist() != orders[1].tolist()
    for order in orders:
        shards = sampler.shard[order]
        assert (np.diff(shards) != 0).sum() == len(SIZES) - 1
    whole = module(pool).loader(tuned.processor, 0, 1).batch_sampler
    shards = whole.shard[np.concatenate(whole.batches(0))]
    assert (np.diff(shards) != 0).sum() > len(SIZES)


@pytest.mark.filterwarnings("ignore:.*weight 0")
def test_killed_fit_goes_on_with_another_number_of_workers(
    pool: tuple[Path, list[str]], tmp_path: Path
) -> None:
    def fitted(folder: Path, *callbacks: Callback, workers: int, path: Path | None = None) -> Any:
        torch.manual_seed(0)
        made = FineTune("quickstart", lora=LoRA(r=4, dropout=0.0), dtype="float32", lr=1e-3)
        data = module(pool, num_workers=workers, packing=True)
        trainer = quiet_trainer(*callbacks, folder=folder, passes=data.passes(1))
        trainer.fit(made, datamodule=data, ckpt_path=path)
        assert trainer.global_step == 5  # 17 pairs, 4 a step
        return {name: p.detach() for name, p in made.named_parameters() if p.requires_grad}

    whole = fitted(tmp_path, workers=0)
    saver = StepCheckpoint(every_n_train_steps=1)
    saver.dirpath = str(tmp_path / "kept")
    with pytest.raises(Killed):
        fitted(tmp_path, saver, Kill(), workers=0)
    (newest,) = [path for path in (tmp_path / "kept").iterdir() if "step=2" in path.name]
    continued = fitted(tmp_path, workers=1, path=newest)
    for name, value in whole.items():
        assert torch.equal(continued[name], value)


def test_what_cannot_be_read_is_refused(pool: tuple[Path, list[str]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.shards .* no \.tar"):
        ShardDataModule(str(tmp_path)).prepare_data()
    other = tmp_path / "other.txt"
    other.write_text("f" * 32)
    with pytest.raises(UserError, match="no sample of 3 shards is wanted"):
        module(pool, str(other))
    other.write_text("abc")
    with pytest.raises(UserError, match="'abc' is no uid"):
        module(pool, str(other))
