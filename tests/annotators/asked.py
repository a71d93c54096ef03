"""An annotator on the test server, its ledger and its problems."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from presel_lightning.annotators import Answers, OpenAICompatible
from tests.annotators.server import USAGE, ChatServer

PRICES = {"price_per_million_input_tokens": 2.0, "price_per_million_output_tokens": 10.0}


COST = (USAGE["prompt_tokens"] * 2.0 + USAGE["completion_tokens"] * 10.0) / 1e6


def annotator(server: ChatServer, **options: Any) -> OpenAICompatible:
    return OpenAICompatible(server.url, "tiny", **{"backoff": 0.01, **PRICES, **options})


def ledger(out: Path) -> list[dict[str, str]]:
    with (out / "ledger.csv").open() as handle:
        return list(csv.DictReader(handle))


def spent(out: Path) -> float:
    return sum(float(row["cost"] or 0) for row in ledger(out))


def problems(answers: Answers) -> dict[str, str]:
    return {problem.image: problem.problem for problem in answers.problems}
