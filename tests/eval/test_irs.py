from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lightning import Trainer

from presel_lightning.data.images import open_rgb
from presel_lightning.data.pool import load_pool
from presel_lightning.eval.irs import IRSLoop
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.loading.templates import TEMPLATES
from presel_lightning.loading.tokens import encode
from presel_lightning.models.llava import unwrapped
from presel_lightning.tasks import FineTune


def one_by_one(tuned: FineTune, data: SelectionDataModule, row: int, question: bool) -> float:
    """The authors' way: one sample, one pass, transformers' own loss."""
    rendered = TEMPLATES["vicuna_bare"].render(data.pool.sample(row).turns, with_question=question)
    processor = tuned.processor
    encoded = encode(rendered, processor.tokenizer, processor.n_image_tokens, 2048)
    with torch.no_grad():
        loss = unwrapped(tuned.model)(
            input_ids=torch.tensor([encoded.input_ids]),
            labels=torch.tensor([encoded.labels]),
            pixel_values=processor.pixels(open_rgb(data.pool.image_path(row)))[None],
        ).loss
    return float(loss)


def test_irs_losses_match_one_by_one_scoring(finished: Path, pool_folder: Path) -> None:
    data = SelectionDataModule(str(pool_folder / "train.json"), template="vicuna_bare")
    data.pool = load_pool(finished, pool_folder)
    tuned = FineTune(str(finished / "models" / "reference"), tune="none", dtype="float32")
    tuned.configure_model()
    table = pq.read_table(finished / "signals" / "paired_loss.parquet").to_pylist()
    for sample in table:
        row = int(data.pool.rows([sample["uid"]])[0])
        for question, column in [(True, "loss_with_question"), (False, "loss_without_question")]:
            expected = one_by_one(tuned, data, row, question)
            assert sample[column] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_irs_loop_resumes_at_the_first_missing_block(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    data = SelectionDataModule(
        str(pool_folder / "train.json"), template="vicuna_bare", num_workers=0, block_size=4
    )
    data.pool = load_pool(finished, pool_folder)
    uids = data.pool.uid[:11]
    tuned = FineTune(str(finished / "models" / "reference"), tune="none", dtype="float32")
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
    )
    loop = IRSLoop(tmp_path / "losses")
    whole = loop.run(trainer, tuned, data, uids)
    kept = loop.folder / "block-0000000.npz"
    stamp = kept.stat().st_mtime_ns
    (loop.folder / "block-0000001.npz").unlink()
    again = loop.run(trainer, tuned, data, uids)
    assert again.equals(whole) and kept.stat().st_mtime_ns == stamp
    assert np.isfinite(whole["irs"].to_numpy()).all()


@pytest.mark.parametrize(("tokens", "blocks"), [(1, 20), (200, 4), (100_000, 1)])
def test_irs_losses_do_not_depend_on_block_size(
    tokens: int, blocks: int, finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    annotations = str(pool_folder / "train.json")
    data = SelectionDataModule(
        annotations, template="vicuna_bare", num_workers=0, block_tokens=tokens
    )
    data.pool = load_pool(finished, pool_folder)
    tuned = FineTune(str(finished / "models" / "reference"), tune="none", dtype="float32")
    uids = data.pool.uid[:20]
    assert len(data.pair_up(uids, tuned.processor)) == blocks
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    table = IRSLoop(tmp_path / "losses").run(trainer, tuned, data, uids).to_pylist()
    assert [row["uid"] for row in table] == uids.tolist()
    for row, sample in enumerate(table):
        expected = one_by_one(tuned, data, row, question=True)
        assert sample["loss_with_question"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
