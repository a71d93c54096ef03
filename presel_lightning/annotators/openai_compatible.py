"""Instructions from a server with OpenAI's chat completions API."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from presel_lightning.annotators.asking import OWNER, Asking, Limits, Service
from presel_lightning.annotators.base import Annotator, AnswerProblem, Names, Report, Request
from presel_lightning.annotators.journal import Journal
from presel_lightning.annotators.ledger import CostLedger
from presel_lightning.annotators.refusals import Refusals
from presel_lightning.annotators.wire import RESPONSE_FORMATS
from presel_lightning.errors import UserError
from presel_lightning.run.ranges import (
    Count,
    NaturalNumber,
    NonNegative,
    Positive,
    Quality,
    Workers,
)


class OpenAICompatible(Annotator):
    """Generate instructions with a model: OpenAI, vLLM, `transformers serve` or a similar server.

    Answers are synced to disk as they arrive, so a run that was killed or stopped at its cap
    requests only the missing ones. `ledger.csv` in the folder of the answers has one line per
    request sent.

    Args:
        base_url: URL of the server including its version, such as `http://localhost:8000/v1`.
        model: name of the model on the server.
        api_key_env: environment variable that holds the API key; null for a server without one.
            The key is read only from there and never written.
        templates: prompts by task or kind of task that replace the shipped ones; `default` is the
            prompt of all others.
        concurrency: maximum number of concurrent requests.
        requests_per_minute: rate limit of the requests.
        max_retries: attempts per image after the first, in one start.
        backoff: seconds before the second attempt, doubled for each further one, with jitter.
        patience: maximum `Retry-After` in seconds; the run stops at a longer one.
        timeout: seconds without a response after which a request counts as failed.
        retry_refused: repeat requests that were refused at an earlier start, or never answered in
            the requested format.
        max_cost: spending cap over all starts, in the currency of the prices.
        price_per_million_input_tokens: price of a million prompt tokens.
        price_per_million_output_tokens: price of a million completion tokens.
        response_format: how JSON is requested from the server; `none` leaves it to the prompt.
        temperature: sampling temperature; null for the server's default.
        max_tokens: longest answer, in tokens.
        max_tokens_key: name of that field; newer models of OpenAI take `max_completion_tokens`.
        image_max_side: images are downscaled to this many pixels on the longer side.
        image_quality: JPEG quality of the images sent.
        extra_body: further fields of every request.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str | None = "OPENAI_API_KEY",
        templates: dict[str, str] | None = None,
        concurrency: Workers = 8,
        requests_per_minute: Positive | None = None,
        max_retries: NaturalNumber = 4,
        backoff: NonNegative = 1.0,
        patience: NonNegative = 300.0,
        timeout: Positive = 120.0,
        retry_refused: bool = False,
        max_cost: NonNegative | None = None,
        price_per_million_input_tokens: NonNegative | None = None,
        price_per_million_output_tokens: NonNegative | None = None,
        response_format: Literal["json_schema", "json_object", "none"] = "json_schema",
        temperature: NonNegative | None = None,
        max_tokens: Count = 1024,
        max_tokens_key: str = "max_tokens",
        image_max_side: Count = 1024,
        image_quality: Quality = 90,
        extra_body: dict[str, Any] | None = None,
    ) -> None:
        prices = (price_per_million_input_tokens, price_per_million_output_tokens)
        counts = {"concurrency": (concurrency, 1), "max_retries": (max_retries, 0)}
        _check(base_url, prices, max_cost, counts)
        self.templates: Mapping[str, str] = templates or {}
        self.api_key_env = api_key_env
        self.max_cost = max_cost
        self.retry_refused = retry_refused
        self._refused = 0
        self.limits = Limits(
            concurrency, requests_per_minute, max_retries, backoff, patience, timeout
        )
        body: dict[str, Any] = {"model": model, max_tokens_key: max_tokens}
        if temperature is not None:
            body["temperature"] = temperature
        if (form := RESPONSE_FORMATS[response_format]) is not None:
            body["response_format"] = form
        self.service = Service(
            url=base_url.rstrip("/") + "/chat/completions",
            body={**body, **(extra_body or {})},
            max_tokens=max_tokens,
            prices=None if prices[0] is None or prices[1] is None else (prices[0], prices[1]),
            image=(image_max_side, image_quality),
        )

    def write(self, requests: Sequence[Request], journal: Journal, names: Names) -> Report:
        """Send the requests to the server, many at a time.

        Raises:
            UserError: the key or httpx is missing, or the server rejects key or model.
        """
        ledger = CostLedger(ledger_path(journal.folder), self.max_cost)
        refusals = Refusals(journal.folder)
        try:
            ledger.catch_up(journal, OWNER)
            left, earlier = self._left(requests, refusals)
            report = Report(cost=None if self.service.prices is None else ledger.spent)
            if left:
                asking = Asking(self.service, self.limits, self._key(), journal, ledger, refusals)
                report = asking.ask_all(left)
            missing = (request for request in requests if request.uid not in journal)
            self._refused = sum(self.service.question(r) in refusals.known for r in missing)
            return replace(report, problems=[*earlier, *report.problems])
        finally:
            ledger.close()
            refusals.close()

    @property
    def cure(self) -> str:
        """What the user does about refusals, which the next start does not request again."""
        if not self._refused:
            return super().cure
        return (
            f"{self._refused} of them were refused, for the reasons in annotations/problems.csv, "
            "and are not requested again: have these answered by hand or by another annotator, with "
            "--annotator FromFile --annotator.init_args.path ANSWERS, or set "
            "--annotator.init_args.retry_refused true"
        )

    def _left(
        self, requests: Sequence[Request], refusals: Refusals
    ) -> tuple[list[Request], list[AnswerProblem]]:
        """Return the requests to send, and the earlier refusals."""
        if self.retry_refused:
            return list(requests), []
        earlier = {r.uid: refusals.known.get(self.service.question(r)) for r in requests}
        left = [request for request in requests if earlier[request.uid] is None]
        return left, [problem for problem in earlier.values() if problem is not None]

    def estimate(self, requests: Sequence[Request], folder: Path) -> float | None:
        """Estimate the cost by the mean per answer so far, else by the upper bound."""
        refusals = Refusals(folder)
        refusals.close()
        requests, _ = self._left(requests, refusals)
        if self.service.prices is None or not requests:
            return None
        path = ledger_path(folder)
        if path.exists():
            ledger = CostLedger(path)
            ledger.close()
            if ledger.answered:
                return len(requests) * ledger.spent / len(ledger.answered)
        return sum(self.service.most(request) for request in requests)

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise UserError(
                f"the environment variable {self.api_key_env} holds no key; export it, or set "
                "annotator.init_args.api_key_env to null for a server that needs none"
            )
        if not (key.isascii() and key.isprintable()):
            raise UserError(
                f"the key in {self.api_key_env} has characters that are not printable ASCII; export it again"
            )
        return key


def ledger_path(folder: Path) -> Path:
    """`ledger.csv`: uid, attempt, prompt_tokens, completion_tokens, cost, seconds, status."""
    return folder / "ledger.csv"


def _check(
    base_url: str,
    prices: tuple[float | None, float | None],
    cap: float | None,
    counts: dict[str, tuple[int, int]],
) -> None:
    at = "annotator.init_args"
    if not base_url.startswith(("http://", "https://")):
        raise UserError(f"{at}.base_url {base_url!r}: give it with http:// or https://")
    if "@" in base_url.split("/")[2]:
        raise UserError(f"{at}.base_url holds a password; set {at}.api_key_env instead")
    if (prices[0] is None) != (prices[1] is None):
        raise UserError(f"{at}: give both prices, price_per_million_input_tokens and …_output_…")
    if cap is not None and prices[0] is None:
        raise UserError(f"{at}.max_cost needs {at}.price_per_million_input_tokens and …_output_…")
    for name, (count, least) in counts.items():
        if count < least:
            raise UserError(f"{at}.{name} {count}: at least {least}")
