"""The IRS evaluation loop: the paired losses of each reference sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from lightning import Trainer

from presel_lightning.functional import instruction_relevance
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.run.ranks import broadcast
from presel_lightning.tasks.block_writer import BlockWriter
from presel_lightning.tasks.finetune import FineTune


class IRSLoop:
    r"""Compute :math:`L_{R|Q,I}`, :math:`L_{R|I}` and their ratio, the instruction relevance.

    Both inputs share their prefix, image and system prompt, which is encoded once per sample. The
    pass runs through the Trainer's predict loop in blocks of samples of similar length that depend
    only on the list of samples: a killed pass resumes at its last block, on any number of
    processes, with the same values.

    Args:
        folder: folder of the blocks; its name must identify model and samples.

    Source: PreSel, Eq. 1-3.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(
        self, trainer: Trainer, module: FineTune, data: SelectionDataModule, uids: np.ndarray
    ) -> pa.Table:
        """Compute the missing blocks, and merge all blocks.

        Args:
            trainer: Trainer of the predict loop.
            module: the reference model.
            data: data module of the run.
            uids: (n,) reference samples.

        Returns:
            uid, task, loss_with_question, loss_without_question, n_tokens, irs and correct
            (teacher-forced exact match); in the order of the pool, losses in nats per token, null
            where a value is undefined.
        """
        writer = BlockWriter(self.folder, data.pair_up(uids, module.processor))
        writer.fill(trainer, module, data)
        return broadcast(lambda: self.table(writer.merge(), data, uids))

    def table(
        self, losses: dict[str, np.ndarray], data: SelectionDataModule, uids: np.ndarray
    ) -> pa.Table:
        """Build the table of paired losses and IRS."""
        rows = np.sort(data.pool.rows(uids))
        with_question, without = losses["loss_with_question"], losses["loss_without_question"]
        irs = instruction_relevance(torch.from_numpy(with_question), torch.from_numpy(without))
        return pa.table(
            {
                "uid": pa.array(data.pool.uid[rows].tolist()),
                "task": pa.array(data.pool.task[rows].tolist()),
                "loss_with_question": pa.array(with_question, pa.float32(), from_pandas=True),
                "loss_without_question": pa.array(without, pa.float32(), from_pandas=True),
                "n_tokens": pa.array(losses["n_tokens"].astype(np.int32)),
                "irs": pa.array(irs.numpy(), pa.float64(), from_pandas=True),
                "correct": pa.array(losses["correct"].astype(bool)),
            }
        )
