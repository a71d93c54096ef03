"""The score that a judge's reply begins with, or that it is expected to begin with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

LAST = 100
"""Highest score of the scale."""
SCORE = re.compile(r"[^\d-]*(\d{1,3})(?!\d)")

Tokens = tuple[int, ...]


def parse_score(reply: str) -> int | None:
    r"""Read the first number of a reply's first line that has one; None where it is no score.

    A number above 100 or below 0 is no score, and is not clipped to one.

    >>> [parse_score(text) for text in ("85", "85\nA dog.", " 100", "10,", "N/A", "")]
    [85, 85, 100, 10, None, None]
    """
    line = next((line for line in reply.splitlines() if line.strip()), "")
    found = SCORE.match(line)
    score = int(found[1]) if found else None
    return None if score is None or score > LAST else score


def branches(numbers: Iterable[Tokens]) -> dict[Tokens, list[int]]:
    """Where numbers go apart: each beginning behind what all have in common, and what may follow.

    >>> branches([(7, 1), (7, 2), (7, 1, 3)])
    {(7,): [1, 2], (7, 1): [3]}
    """
    following: dict[Tokens, set[int]] = {}
    for tokens in numbers:
        for place, token in enumerate(tokens):
            following.setdefault(tokens[:place], set()).add(token)
    start: Tokens = ()
    while len(following[start]) == 1 and start not in numbers:
        start = (*start, *following.pop(start))
    return {path: sorted(tokens) for path, tokens in following.items()}


def expected_number(numbers: Mapping[int, Tokens], log_probs: Mapping[Tokens, Tensor]) -> Tensor:
    r"""Mean of the numbers that a reply may begin with, weighted by their probabilities.

    .. math::
        E = \frac{\sum_n n\,P(n)}{\sum_n P(n)}, \qquad
        P(n) = \prod_i p(t_i \mid t_{<i}) \Bigl(1 - \sum_{u} p(u \mid t)\Bigr)

    for the tokens t of n, u over the tokens by which t goes on to another number: where digits are
    tokens, 8 is an 8 behind which no digit of a larger number follows. Tokens that all numbers begin
    with are taken as given.

    Args:
        numbers: tokens of each number.
        log_probs: (B, V) log-probabilities of the next token behind each of `branches`.

    Returns:
        (B,) float32.
    """
    following = branches(list(numbers.values()))
    start = len(min(following, key=len))
    total = weighted = torch.zeros(len(next(iter(log_probs.values()))), dtype=torch.float64)
    for number, tokens in numbers.items():
        steps = range(start, len(tokens))
        logs = [log_probs[tokens[:place]][:, tokens[place]].double().cpu() for place in steps]
        probability = torch.stack(logs).sum(0).exp()
        if tokens in following:
            longer = log_probs[tokens][:, following[tokens]].double().exp().sum(1).cpu()
            probability = probability * (1 - longer).clamp(min=0)
        total, weighted = total + probability, weighted + number * probability
    return (weighted / total).float()
