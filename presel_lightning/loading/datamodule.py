"""Pool in, selected loaders out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch.utils.data import DataLoader

from presel_lightning import quickstart
from presel_lightning.console import track
from presel_lightning.data.build import build_pool
from presel_lightning.data.foreign import nothing_usable
from presel_lightning.data.images import LIMIT, MAX_PIXELS
from presel_lightning.data.pixels import Pixels
from presel_lightning.data.pool import Pool, load_pool
from presel_lightning.data.sizes import count_of
from presel_lightning.data.source import PoolSource, SeveralImages, check_several, source
from presel_lightning.data.task_rules import TaskRule
from presel_lightning.data.texts import Texts
from presel_lightning.data.values import AnswerLists, check_lists
from presel_lightning.errors import UserError
from presel_lightning.loading.blocks import BlockDataModule
from presel_lightning.loading.datasets import ImageSet, MatchSet, PairSet, ReadSet, TrainSet
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.loading.packing import token_lengths
from presel_lightning.loading.reference_split import draw_from_tasks
from presel_lightning.loading.samplers import (
    Blocks,
    GlobalBatchSampler,
    ResumableLoader,
    even_blocks,
    passes,
    token_blocks,
)
from presel_lightning.loading.templates import AUTO, TEMPLATES
from presel_lightning.loading.truncation import texts_without_answer, without_answer
from presel_lightning.records import Selection
from presel_lightning.run.decisions import NO_DECISIONS, Decisions
from presel_lightning.run.ranges import Count, Fraction, Processes, Size
from presel_lightning.selectors.base import Selector, extended
from presel_lightning.selectors.copies import Copies, check_copies, later_copies, select_once
from presel_lightning.selectors.reviewed import reviewed
from presel_lightning.signals import Signal, Signals


class SelectionDataModule(BlockDataModule):
    """A pool of images, its selection, and the loaders of every stage.

    Args:
        annotations: LLaVA-format JSON, JSON lines or CSV, one or several; or a folder of folders of
            images (folder = task, no instructions); or Hugging Face datasets on disk (the folder
            of a split, or Parquet) or webdataset tars, one or several; or `quickstart`, the pool
            that we ship, and `quickstart:equal`, `:hard_small`, `:easy_small`, `:corrupt`,
            `:giant`, others like it.
        image_root: folder that image paths are relative to and may not leave; by default the
            folder of the (first) annotation file, or the annotation folder itself. Not for
            datasets and tars, which hold their images themselves.
        task_key: field that names a record's task.
        task_files: task of each annotation file, instead of a key: {task: file}.
        task_rules: rules that assign the task, instead of a key; the first match wins.
        reference: size of the reference split, a fraction or a count.
        budget: size of the whole selection, reference included: 0 < x <= 1 is a fraction (1 is
            everything), an integer from 2 a count.
        extend: let a larger budget add to what was selected in this run folder before, and new
            images to the reference split, so that every instruction is used; `false` selects
            again.
        always_reference: draw the reference split for every selector, and keep it in each
            selection, so that all of them start alike; `compare` does so.
        text_only: train on the records without an image too: in the final fit and in every arm
            beside it, not in the reference fit. They are no part of the pool and of no budget.
        weights: how the weights of a selector train, where it returns some other than 1. `loss`
            multiplies the token losses of a sample by its weight (see `FineTune`); `sample` draws
            each epoch of images with replacement in proportion to their weights, as many as there
            are. Text-only records and the arms beside the final one are unweighted.
        template: conversation template; `auto` is vicuna_v1 for LLaVA-1.5, and any other model's
            own chat template.
        max_length: tokens of a sample, image included; longer ones are truncated at the end.
        packing: put the samples of a forward pass one behind another into rows instead of padding
            each to the longest. Attention stays within a sample, positions restart, and the loss is
            the same.
        pack_length: tokens of such a row; `max_length` without it.
        batch_size: samples of a training step, over all devices.
        micro_batch_size: samples of a forward pass, on each device; the step is accumulated from
            as many passes as it takes. All of a device's part of the batch without it.
        eval_batch_size: items of a benchmark that are answered at a time, on each device; halved by
            itself where memory runs out. A benchmark's own `batch_size` goes first.
        block_size: samples of a block of a loss or feature pass; a killed pass loses one at most.
        block_tokens: tokens of a block of a loss pass, image and padding included; on a device
            with little memory give less. Blocks of long samples hold fewer than `block_size`.
        num_workers: processes that decode images, for each device.
        verify: `full` decodes every image once before anything is sampled, `header` reads
            headers only.
        max_pixels: images with more are left out; Pillow opens up to 178,956,970.
        pixels: `as_shown` reads an image as viewers show it (orientation, transparency, depth),
            `published` as LLaVA does: Pillow's plain conversion, for parity with published results.
        follow_links: whether links below `image_root` may lead out of it, to another disk; paths
            that are absolute or climb (`..`) are refused all the same.
        copies: `once` selects a picture that lies under several names in a task once, `keep` under
            each; see `later_copies`.
        answer_lists: what becomes of an answer that is a list: `refuse` lists its record as a
            problem, `first` takes the first answer, `most_common` the one that occurs most often.
        several_images: `keep` takes records with several images into the pool, for models whose template
            takes several; `refuse` lists each as a problem.
        exclude: CSV with a column `uid`, such as the `leakage.csv` of `check --against`, or a text
            with a uid a line: samples that are left out of the pool.
        caption_key: field of a record that holds a caption, such as `caption` of img2dataset or `txt` of
            tars: it becomes the answer to no question, where a record has no conversation.
        count_key: field of a record whose values the report counts, in the pool and among what was
            selected, such as a source.
        max_problem_fraction: stop before any training if more of the records have problems.
    """

    def __init__(
        self,
        annotations: str | list[str] = "quickstart",
        image_root: str | None = None,
        task_key: str = "task",
        task_files: dict[str, str] | None = None,
        task_rules: list[TaskRule] | None = None,
        reference: Size = 0.05,
        budget: Size = 0.15,
        extend: bool = True,
        always_reference: bool = False,
        text_only: bool = False,
        weights: Literal["loss", "sample"] = "loss",
        template: str = AUTO,
        max_length: Count = 2048,
        packing: bool = False,
        pack_length: Count | None = None,
        batch_size: Count = 128,
        micro_batch_size: Count | None = None,
        eval_batch_size: Count = 64,
        block_size: Count = 32,
        block_tokens: Count = 8192,
        num_workers: Processes = 4,
        verify: Literal["full", "header"] = "full",
        max_pixels: Count = MAX_PIXELS,
        pixels: Pixels = "as_shown",
        follow_links: bool = False,
        copies: Copies = "once",
        answer_lists: AnswerLists = "refuse",
        several_images: SeveralImages = "refuse",
        exclude: str | None = None,
        caption_key: str | None = None,
        count_key: str | None = None,
        max_problem_fraction: Fraction = 0.05,
    ) -> None:
        super().__init__(num_workers)
        # a rank may have no block of a short pass
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.annotations = annotations
        self.image_root = image_root
        self.task_key, self.task_files, self.task_rules = task_key, task_files, task_rules
        self.reference, self.budget = reference, budget
        self.extend, self.always_reference = extend, always_reference
        self.text_only, self.weights = text_only, weights
        self.template, self.max_length = template, max_length
        self.packing, self.pack_length = packing, pack_length
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size
        self.eval_batch_size = eval_batch_size
        self.block_size, self.block_tokens = block_size, block_tokens
        self.verify, self.max_pixels, self.pixels = verify, max_pixels, pixels
        self.follow_links, self.copies, self.answer_lists = follow_links, copies, answer_lists
        self.several_images, self.exclude, self.caption_key = several_images, exclude, caption_key
        self.count_key, self.max_problem_fraction = count_key, max_problem_fraction
        self._pool: Pool | None = None
        self.texts: Texts | None = None
        self.n_without_answer = self.n_texts_without_answer = 0
        self._train: Callable[..., ResumableLoader] | None = None
        for key, size in (("data.reference", reference), ("data.budget", budget)):
            if not size > 0 or (size > 1 and not isinstance(size, int)):
                raise UserError(
                    f"{key} is {size}; give a fraction 0 < x <= 1 or a whole number from 2"
                )
        if packing and pack_length is not None and pack_length < max_length:
            raise UserError(
                f"data.pack_length is {pack_length}, less than data.max_length {max_length}; raise it, "
                "or lower data.max_length"
            )
        if eval_batch_size < 1:
            raise UserError(f"data.eval_batch_size is {eval_batch_size}; give 1 or more")
        if max_pixels > LIMIT:
            raise UserError(
                f"data.max_pixels is {max_pixels}, and Pillow opens images of up to {LIMIT} pixels; "
                "give no more, and shrink larger images"
            )
        check_lists(answer_lists)
        check_copies(copies)
        check_several(several_images)
        if template not in (known := [AUTO, *TEMPLATES]):
            raise UserError(f"data.template {template!r} is unknown; choose from {known}")

    # ---------------------------------------------------------------- the pool and its parts

    def source(self, out: Path) -> PoolSource:
        """The files that the pool is read from."""
        annotations = self.annotations
        if not annotations and not self.task_files:
            raise UserError(
                "data.annotations is not set; give --data.annotations with a folder of folders of "
                "images (a folder a task) or an annotation file"
            )
        if quickstart.is_pool(annotations):
            folder = quickstart.pool(out / "work" / "quickstart", str(annotations))
            annotations = str(folder / "train.json")
        return self.source_of(
            annotations,
            image_root=self.image_root,
            task_files=self.task_files,
            task_rules=self.task_rules,
            text_only=self.text_only,
            exclude=self.exclude,
            unpacked=out / "work" / "unpacked",
            track=track,
        )

    def source_of(self, annotations: str | list[str], **options: Any) -> PoolSource:  # noqa: ANN401
        """Another annotation file, whose records and images are read as those of the pool.

        Args:
            annotations: see `source` of `data`.
            options: its options that are no matter of how records are read.
        """
        return source(
            annotations,
            task_key=self.task_key,
            verify=self.verify,
            max_pixels=self.max_pixels,
            pixels=self.pixels,
            workers=self.num_workers,
            follow_links=self.follow_links,
            answer_lists=self.answer_lists,
            several_images=self.several_images,
            caption_key=self.caption_key,
            **options,
        )

    @property
    def pool(self) -> Pool:
        """Every sample, and which of them are the reference split.

        Raises:
            UserError: none has been read yet.
        """
        if self._pool is None:
            raise UserError("SelectionDataModule has no pool yet: call read_pool(folder) first")
        return self._pool

    @pool.setter
    def pool(self, pool: Pool) -> None:
        self._pool = pool

    def read_pool(self, folder: str | Path) -> Pool:
        """Read `annotations` into a pool, for a script; the recipe does this as a stage of its own.

        Args:
            folder: where `pool.parquet` and `problems.csv` are written.

        Raises:
            UserError: the annotations cannot be read, or hold no image record.
        """
        source = self.source(Path(folder))
        if not build_pool(source, Path(folder)).pool:
            raise UserError(nothing_usable(self.annotations, {}, 0))
        self.pool = load_pool(Path(folder), source.image_root)
        return self.pool

    def split_reference(
        self, seed: int, earlier: Sequence[str] = (), decisions: Decisions = NO_DECISIONS
    ) -> np.ndarray:
        """Uids of the reference split: every task in proportion, random inside a task.

        Args:
            seed: of the draw.
            earlier: uids that were drawn before; they go first.
            decisions: vetoed samples are not drawn; the next of the draw takes the place of each.

        Raises:
            UserError: the split is larger than the budget or has fewer samples than tasks.
        """
        total = count_of(self.reference, len(self.pool), "data.reference")
        budget = count_of(self.budget, len(self.pool), "data.budget")
        if budget < total:
            percent = f"; {self.budget} % is {self.budget / 100}" if 1 < self.budget <= 100 else ""
            raise UserError(
                f"data.budget is {self.budget} ({budget} samples), less than data.reference "
                f"{self.reference} ({total}); raise the budget or lower the reference{percent}"
            )
        tasks = self.pool.tasks
        if total < len(tasks):
            raise UserError(
                f"data.reference is {self.reference} ({total} samples) for {len(tasks)} tasks; "
                f"every task needs one: set it to {len(tasks)} or more"
            )
        known = np.zeros(len(self.pool), dtype=bool)
        known[self.pool.rows(earlier)] = True
        later = self.left_out_copies(known)
        rows = [own[~later[own]] for own in map(self.pool.task_rows, tasks)]
        never = np.zeros(len(self.pool), dtype=bool)
        never[self.pool.rows(decisions.among(self.pool.uid).vetoed)] = True
        uids: np.ndarray = self.pool.uid[draw_from_tasks(rows, total, seed, known, never)]
        return uids

    def select(
        self,
        selector: Selector,
        signals: Signals,
        earlier: Sequence[str] = (),
        *,
        seed: int,
        decisions: Decisions = NO_DECISIONS,
    ) -> Selection:
        """Choose what is added to the reference split, so that both together meet the budget.

        `self.pool.reference` must be marked if the selector needs a signal that rests on it.

        Args:
            selector: the method.
            signals: what it needs.
            earlier: uids that were chosen before and stay.
            seed: of every random draw.
            decisions: samples that a person vetoed or pinned; see `reviewed`.

        Raises:
            UserError: what the selector returned is no selection: scores that are not finite, other
                shapes or types, more samples than the budget, weights that nothing can be trained by;
                or more samples are pinned than the budget has room for.
        """
        if not isinstance(selector, Selector):
            raise UserError(f"selector is {selector!r}; give an object, such as Random()")
        budget = count_of(self.budget, len(self.pool), "data.budget")
        added = budget - int(self.pool.reference.sum())
        first = sorted(decisions.among(self.pool.uid).pinned)
        options: dict[str, Any] = {"seed": seed, "copies": self.copies, "first": first}
        selection = select_once(selector, self.pool, signals, added, earlier=earlier, **options)
        if len(earlier):
            selection = extended(selection, self.pool, earlier)
        if not decisions:
            return selection
        pool = self.pool.with_earlier(earlier)
        return reviewed(selection, pool, decisions, self.left_out_copies(pool.earlier))

    def left_out_copies(self, first: np.ndarray | None = None) -> np.ndarray:
        """Mark the samples that are not drawn as they show what another one shows, (N,) bool.

        Args:
            first: (N,) samples that precede their copies.
        """
        if self.copies == "keep":
            return np.zeros(len(self.pool), dtype=bool)
        return later_copies(self.pool, first)

    @staticmethod
    def needs_reference(selector: Selector) -> bool:
        """Whether a selector leans on a model that was tuned on a reference split."""
        return any(Signal.known[need].on_reference for need in selector.needs)

    # ---------------------------------------------------------------- what the loaders serve

    def encoder(self, processor: Any) -> Any:  # noqa: ANN401 - see `encoder_of`
        """Conversations to batches, for one model."""
        return encoder_of(self.template, processor, self.max_length, self.pixels)

    @property
    def capacity(self) -> int | None:
        """Tokens of a packed row; None where samples are padded."""
        return (self.pack_length or self.max_length) if self.packing else None

    def passes(self, world: int) -> int:
        """Forward passes of a training step, on each of `world` devices."""
        return passes(self.batch_size, world, self.micro_batch_size)

    def train_on(
        self,
        uids: np.ndarray,
        processor: Any,  # noqa: ANN401 - see `encoder_of`
        *,
        seed: int,
        texts: Texts | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """Serve these samples to the next fit, and text-only records beside them.

        A sample or text that `max_length` leaves no answer of is left out (`n_without_answer`,
        `n_texts_without_answer`).

        Args:
            uids: the samples.
            processor: of the model that is trained.
            seed: of the order, and of the draws where samples are drawn by weight.
            texts: text-only records.
            weights: training weights other than 1, by uid.

        Raises:
            UserError: a sample has no instruction yet, or is not in the pool.
        """
        rows, encoder = self._instructed(uids), self.encoder(processor)
        empty = without_answer(encoder, self.pool, rows)
        rows, self.n_without_answer = rows[~empty], int(empty.sum())
        self.n_texts_without_answer = 0
        if texts is not None:
            left_out = texts_without_answer(encoder, texts)
            texts, self.n_texts_without_answer = texts.without(left_out), int(left_out.sum())
        in_loss, chances = self.weigh(rows, weights or {})
        read = self.max_pixels, self.pixels
        capacity = self.capacity
        dataset = TrainSet(self.pool, rows, encoder, texts, in_loss, *read, capacity)
        n_texts = len(texts or ())
        if capacity:
            lengths = token_lengths(encoder, self.pool, rows, texts)
        else:
            words = [] if texts is None else [texts.n_words]
            lengths = np.concatenate([self.pool.n_words[rows], *words])
        self._loader, self._place = None, {}

        def loader(rank: int, world: int, balanced: bool = False) -> ResumableLoader:
            size, micro = self.batch_size, self.micro_batch_size
            options = micro, n_texts, chances
            sampler = GlobalBatchSampler(
                lengths, size, seed, rank, world, *options, balanced=balanced, capacity=capacity
            )
            return ResumableLoader(dataset, batch_sampler=sampler, **self.loader_options(dataset))

        self._train = loader

    def _instructed(self, uids: Sequence[str] | np.ndarray) -> np.ndarray:
        """Row numbers of samples, ascending, all of which have an instruction."""
        rows: np.ndarray = np.sort(self.pool.rows(uids))
        missing = rows[~self.pool.has_instruction[rows]]
        if len(missing):
            raise UserError(
                f"{len(missing)} of {len(rows)} samples to train on or to score have no instruction yet, "
                f"such as {self.pool.image[missing[0]]}; write them into data.annotations, and keep "
                "the uids of pool.has_instruction"
            )
        return rows

    def weigh(
        self, rows: np.ndarray, weights: Mapping[str, float]
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Weight in the loss and chance of a draw of each row; None where all are alike."""
        if not weights:
            return None, None
        each = np.array([weights.get(uid, 1.0) for uid in self.pool.uid[rows]])
        return (each, None) if self.weights == "loss" else (None, each)

    def pair_up(self, uids: np.ndarray, processor: Any) -> Blocks:  # noqa: ANN401
        """Prepare these samples, with and without question, for the next prediction.

        Raises:
            UserError: a sample has no instruction yet, or is not in the pool.
        """
        return self.read_as(PairSet, self.pool.uid[self._instructed(uids)], processor)

    def read_as(self, kind: type[ReadSet], uids: np.ndarray, processor: Any) -> Blocks:  # noqa: ANN401
        """Prepare these samples, in the inputs of a kind of dataset, for the next prediction."""
        rows = np.sort(self.pool.rows(uids))
        read = self.max_pixels, self.pixels
        shown = kind(self.pool, rows, self.encoder(processor), None, None, *read)
        blocks = token_blocks(shown.lengths(), self.block_tokens, self.block_size)
        return self.hold(shown, blocks)

    def show(self, paths: list[Path], image_processor: Any) -> Blocks:  # noqa: ANN401
        """Prepare images for the next prediction."""
        shown = ImageSet(paths, image_processor, self.max_pixels, self.pixels)
        return self.hold(shown, even_blocks(len(paths), self.block_size))

    def match(self, uids: np.ndarray, image_processor: Any, reader: Any) -> Blocks:  # noqa: ANN401
        """Prepare the images of these samples with their texts for the next prediction."""
        rows = np.sort(self.pool.rows(uids))
        read = self.max_pixels, self.pixels
        shown = MatchSet(self.pool, rows, image_processor, reader, *read)
        return self.hold(shown, even_blocks(len(rows), self.block_size))

    def train_dataloader(self) -> DataLoader[Any]:
        """This rank's part of each global batch, from where a continued fit was.

        Drawn as LLaVA draws it where each device's loss is its own mean; see `GlobalBatchSampler`.

        Raises:
            UserError: `train_on` has not been called.
        """
        if self._train is None:
            raise UserError("nothing to train on: call train_on(uids, processor, seed=…) first")
        trainer: Any = self.trainer
        own_mean = getattr(trainer.lightning_module, "loss_reduction", "global") == "per_device"
        return self.continued(self._train(trainer.global_rank, trainer.world_size, own_mean))
