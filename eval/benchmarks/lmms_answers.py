"""What a model answered to each item of a task, from the samples that lmms-eval logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from presel_lightning.eval.benchmarks.base import Answer

Json = dict[str, Any]


def answers_of(
    samples: Sequence[Json], task: str, credits: Mapping[str, float] | None
) -> list[Answer]:
    """Return question, expected answer and prediction of each item; what is not logged is empty.

    An item that is logged by several filters is taken as the first has it.

    Args:
        samples: `samples` of a task in the results of lmms-eval.
        task: name of the score.
        credits: credit of each item by its id, if each has one.
    """
    first: dict[str, Json] = {}
    for sample in samples:
        first.setdefault(str(sample["doc_id"]), sample)
    return [
        Answer(f"{task} {uid}", task, *texts_of(sample), (credits or {}).get(uid))
        for uid, sample in first.items()
    ]


def texts_of(sample: Json) -> tuple[str, str, str]:
    """Return question, expected answer and prediction of a sample.

    Of a multiple-choice item the log has a request for each option, whose mean loss is the response:
    the prediction is the option of the smallest, as lmms-eval takes it here.
    """
    arguments = sample.get("arguments") or []
    question = arguments[0] if arguments and isinstance(arguments[0], str) else ""
    target, responses = sample.get("target"), sample.get("filtered_resps") or []
    losses = [loss for response in responses if (loss := loss_of(response)) is not None]
    if losses and len(losses) == len(responses):
        options = options_of(arguments, len(losses))
        if isinstance(target, int) and 0 <= target < len(options):
            target = options[target]
        return question, text_of(target), options[losses.index(min(losses))] if options else ""
    return question, text_of(target), text_of(responses)


def options_of(arguments: Sequence[Any], n: int) -> list[str]:
    """Return the options of a multiple-choice item from the arguments of its n requests; [] if not logged.

    The arguments of every request follow each other: the question, the option behind a delimiter, and
    where it came from.
    """
    width, rest = divmod(len(arguments), n)
    options = [arguments[row * width + 1] for row in range(n)] if width > 1 and not rest else []
    known = [option.strip() for option in options if isinstance(option, str)]
    return known if len(known) == len(options) else []


def loss_of(response: Any) -> float | None:  # noqa: ANN401 - what a filter has made of a reply
    """Return the mean loss of an option, of the pair that `InMemory.loglikelihood` returns; None for text."""
    pair = response[0] if isinstance(response, list) and len(response) == 1 else response
    pair = getattr(pair, "text", pair)
    if isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], float):
        return pair[0]
    return None


def text_of(value: Any) -> str:  # noqa: ANN401 - whatever a task expects
    """Return a target or a response as text; several different texts are joined."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        parts = [text_of(part) for part in value]
        return "; ".join(dict.fromkeys(filter(None, parts)))
    return str(value)
