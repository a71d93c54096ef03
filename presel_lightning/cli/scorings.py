"""What `score` computes of each sample: a judge's ratings, CLIP similarities, features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pyarrow as pa
from lightning import LightningModule

from presel_lightning.check.origin import origin_of, read_config
from presel_lightning.errors import UserError
from presel_lightning.functional.judge_score import parse_score
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.loading.judging import Judging
from presel_lightning.loading.matching import Cropping, Matching
from presel_lightning.loading.shard_blocks import Batch, Seen
from presel_lightning.loading.templates import AUTO, TEMPLATES
from presel_lightning.loading.tokens import UNCUT
from presel_lightning.models.image_encoder import describe_encoder, load_encoder_processor
from presel_lightning.models.image_text import load_readers
from presel_lightning.models.paired import why_not_shared
from presel_lightning.tasks import Embed, FineTune
from presel_lightning.tasks.judge import Judge, Reading
from presel_lightning.tasks.shard_writer import Arrays
from presel_lightning.tasks.similarity import Similarity

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Encode = Callable[[list[Seen]], Batch]


@dataclass(frozen=True)
class Scoring(ABC):
    """One kind of scores; it can be pickled, and a process loads its model once.

    Args:
        checkpoint: folder or hub id of the model.
        dtype: of the weights.
    """

    checkpoint: str
    dtype: Dtype

    name: ClassVar[str]
    """Option that names the checkpoint, and folder of the tables."""
    kept: ClassVar[Sequence[str] | None] = None
    """Arrays of a prediction that the columns are made of; None for all."""

    @abstractmethod
    def key(self) -> list[Any]:
        """What defines the scores, beside the shard."""

    @abstractmethod
    def load(self) -> tuple[LightningModule, Encode]:
        """The module, and what makes its batches; its weights come with the first pass."""

    @abstractmethod
    def columns(self, arrays: Arrays) -> dict[str, pa.Array]:
        """Columns of a table."""


@cache
def loaded(scoring: Scoring) -> tuple[LightningModule, Encode]:
    """What `Scoring.load` returns, once a process."""
    return scoring.load()


@dataclass(frozen=True)
class Ratings(Scoring):
    """Replies of a judge, or what it expects of the numbers that it could reply.

    Args:
        template: conversation template of the judge; `auto` finds it.
        prompts: name and prompt of each metric.
        caption_tokens: longer captions are cut.
        max_new_tokens: of a reply.
        reading: `greedy` or `expectation`.
    """

    template: str
    prompts: tuple[tuple[str, str], ...]
    caption_tokens: int
    max_new_tokens: int
    reading: Reading

    name: ClassVar[str] = "judge"

    @property
    def tuned(self) -> FineTune:
        """The judge, without its weights."""
        return FineTune(self.checkpoint, tune="none", dtype=self.dtype)

    def key(self) -> list[Any]:
        """Model, prompts, and how they are asked."""
        asked = [self.template, dict(self.prompts), self.caption_tokens, self.max_new_tokens]
        more = [] if self.reading == "greedy" else [self.reading]
        return [self.tuned.fingerprint(), *asked, *more]

    def load(self) -> tuple[LightningModule, Encode]:
        """Judge and prompts."""
        tuned = self.tuned
        judging = judging_of(tuned, self.template, dict(self.prompts), self.caption_tokens)
        stops = tuple(judging.encoder.stop_ids())
        return Judge(tuned, stops, self.max_new_tokens, self.reading), judging

    def columns(self, arrays: Arrays) -> dict[str, pa.Array]:
        """Scores, and of replies how they read."""
        if self.reading == "greedy":
            return judged(arrays)
        return {f"{name}_score": pa.array(each, pa.float32()) for name, each in arrays.items()}


@dataclass(frozen=True)
class Similarities(Scoring):
    """Cosines of images and captions.

    Args:
        column: name of the column.
    """

    column: str

    name: ClassVar[str] = "clip"
    kept: ClassVar[Sequence[str] | None] = ["similarity"]

    def key(self) -> list[Any]:
        """Model and column."""
        return [Similarity(self.checkpoint, self.dtype).fingerprint(), self.column]

    def load(self) -> tuple[LightningModule, Encode]:
        """Both towers, and what reads for them."""
        return Similarity(self.checkpoint, self.dtype), Matching(*load_readers(self.checkpoint))

    def columns(self, arrays: Arrays) -> dict[str, pa.Array]:
        """The cosine."""
        return {self.column: pa.array(arrays["similarity"].astype("float32"))}


@dataclass(frozen=True)
class Vectors(Scoring):
    """L2-normalised features of the images, for `select --data.features`."""

    name: ClassVar[str] = "features"

    def key(self) -> list[Any]:
        """Encoder."""
        return [describe_encoder(self.checkpoint), self.dtype]

    def load(self) -> tuple[LightningModule, Encode]:
        """Encoder and crops."""
        return (
            Embed(self.checkpoint, self.dtype),
            Cropping(load_encoder_processor(self.checkpoint)),
        )

    def columns(self, arrays: Arrays) -> dict[str, pa.Array]:
        """A vector a row."""
        rows = arrays["features"]  # (N, D)
        return {
            "features": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
        }


def judging_of(
    tuned: FineTune, template: str, prompts: dict[str, str], caption_tokens: int
) -> Judging:
    """What writes the prompts of a judge; whether it shares prefixes is asked of its configuration.

    Raises:
        UserError: there is no such template.
    """
    if template not in (known := [AUTO, *TEMPLATES]):
        raise UserError(f"--template {template}: no such template; choose from {', '.join(known)}")
    config = read_config(origin_of(tuned))
    encoder = encoder_of(template, tuned.processor, UNCUT)
    reason = why_not_shared(SimpleNamespace(config=config))
    return Judging(encoder, tuned.processor, prompts, caption_tokens, reason is None)


def judged(replies: Arrays) -> dict[str, pa.Array]:
    """Scores, whether they could be read, and the replies themselves, by metric."""
    columns: dict[str, pa.Array] = {}
    for metric, texts in replies.items():
        scores = [parse_score(text) for text in texts.tolist()]
        columns[f"{metric}_score"] = pa.array(scores, pa.int16())
        columns[f"{metric}_parse_ok"] = pa.array([score is not None for score in scores])
        columns[f"{metric}_reply"] = pa.array(texts.tolist(), pa.string())
    return columns
