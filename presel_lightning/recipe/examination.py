"""What a model's encoder makes of a run's samples: `check` and the recipe examine it alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL.Image import Image

from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks.base import BenchmarkTask
from presel_lightning.loading.chat_encoder import ChatEncoder
from presel_lightning.loading.encoder import files_in
from presel_lightning.loading.llava_encoder import ONE
from presel_lightning.loading.templates import TEMPLATES
from presel_lightning.loading.truncation import Item, notice, truncated
from presel_lightning.run.pages import page

Read = Callable[[Path], Image]
"""Opens an image file."""

LIMIT = 2000
"""Number of conversations that are encoded, a random sample by the run's seed."""


def examine_samples(encoder: Any, items: Sequence[Item], read: Read | None) -> list[str]:  # noqa: ANN401
    """Encode samples as training does, the first of them with its image; return warnings.

    Args:
        encoder: a `SampleEncoder`.
        items: samples with an instruction.
        read: opens an image; None where the encoder cannot take one yet.

    Raises:
        UserError: a sample cannot be encoded.
    """
    if read is not None and (found := _first_image(items, read)) is not None:
        item, shown = found
        try:
            encoder.batch([encoder.sample(item.turns, shown)])
        except UserError:
            raise
        except Exception as error:  # whatever a model's own processor raises
            line = " ".join(str(error).split())[:160]
            raise UserError(
                f"sample {item.name}: the processor of model.checkpoint fails on it ({type(error).__name__}: "
                f"{line}); {page('models.md')} lists the models that can be tuned"
            ) from error
    return wrong_end(encoder) + notice(truncated(encoder, items), len(items), encoder.max_length)


def _first_image(items: Sequence[Item], read: Read) -> tuple[Item, list[Image]] | None:
    """The first sample whose images can be read; broken ones are reported elsewhere."""
    for item in items:
        if files := files_in(item.image):
            with suppress(OSError, ValueError, SyntaxError):
                return item, list(map(read, files))
    return None


def refuse_several(encoder: Any, n: int) -> None:  # noqa: ANN401 - a `SampleEncoder`
    """See that a model takes several images, where records of the pool have them.

    Args:
        encoder: of the model.
        n: records with several images.

    Raises:
        UserError: its template takes one image.
    """
    if n and not encoder.takes_several:
        cure = "or set data.several_images to refuse, which lists these records as problems"
        raise UserError(f"{n} records have several images, and {ONE}, {cure}")


def refuse_items(encoder: Any, benchmarks: Iterable[BenchmarkTask]) -> None:  # noqa: ANN401
    """See that a model takes several images, where items of benchmarks have them.

    Raises:
        UserError: its template takes one image.
    """
    for benchmark in benchmarks:
        n = sum(bool(item.more) for item in benchmark.items())
        if n and not encoder.takes_several:
            raise UserError(
                f"{n} items of the benchmark {benchmark.name} have several images, and {ONE}, or take "
                "the benchmark out"
            )


def wrong_end(encoder: Any) -> list[str]:  # noqa: ANN401 - a `SampleEncoder`
    """Warn where what ends an answer is no token that a model can stop at."""
    if encoder.stop_ids():
        return []
    if isinstance(encoder, ChatEncoder):
        which, stop = "the model's chat template", "no single token"
    else:
        which = f"data.template {encoder.template}"
        stop = f"{TEMPLATES[encoder.template].stop!r}, which is no token of the model"
    return [f"{which} ends answers with {stop}: the trained model will not stop generating there"]


def few_references(sizes: dict[str, int]) -> list[str]:
    """Warn of tasks with fewer than two reference samples: one sample shows no spread.

    Args:
        sizes: reference samples of each task.
    """
    few = sorted(task for task, n in sizes.items() if n < 2)
    if not few:
        return []
    named = ", ".join(few[:3]) + (f" and {len(few) - 3} more" if len(few) > 3 else "")
    said = (
        f"{len(few)} of {len(sizes)} tasks have fewer than two reference samples ({named}), so their IRS "
        "has no standard error; raise data.reference"
    )
    return [said]
