"""Instructions from a server with OpenAI's chat completions API."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from presel_lightning.annotators.asking import OWNER, Asking, Limits, Service, require_httpx
from presel_lightning.annotators.base import (
    Annotator,
    AnswerProblem,
    AtMost,
    Names,
    Report,
    Request,
)
from presel_lightning.annotators.journal import Journal
from presel_lightning.annotators.ledger import MALFORMED, CostLedger
from presel_lightning.annotators.refusals import Refusals
from presel_lightning.annotators.unreadable import FILE, Unreadable
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

AT = "annotator.init_args"
"""Key of the options in a config."""
REACHING = 5.0
"""Seconds that a server may take to answer when a run begins."""


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
        max_unreadable: consecutive replies that cannot be read after which the run stops; once a
            reply could be read, they have to be of as many images.
        backoff: seconds before the second attempt, doubled for each further one, with jitter.
        patience: maximum `Retry-After` in seconds; the run stops at a longer one.
        timeout: seconds without a response after which a request counts as failed.
        retry_refused: repeat requests that were refused at an earlier start, or whose replies
            could not be read.
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
        max_unreadable: Count = 5,
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
        counts = {
            "concurrency": (concurrency, 1),
            "max_retries": (max_retries, 0),
            "max_unreadable": (max_unreadable, 1),
        }
        _check(base_url, prices, max_cost, counts)
        self.templates: Mapping[str, str] = templates or {}
        self.api_key_env = api_key_env
        self.max_cost = max_cost
        self.retry_refused = retry_refused
        self.max_unreadable = max_unreadable
        self._refused = self._malformed = 0
        self._stop = ""
        self.limits = Limits(
            concurrency, requests_per_minute, max_retries, backoff, patience, timeout
        )
        body: dict[str, Any] = {"model": model, max_tokens_key: max_tokens}
        if temperature is not None:
            body["temperature"] = temperature
        if (form := RESPONSE_FORMATS[response_format]) is not None:
            body["response_format"] = form
        self.base_url = base_url.rstrip("/")
        self.service = Service(
            url=self.base_url + "/chat/completions",
            body={**body, **(extra_body or {})},
            max_tokens=max_tokens,
            prices=None if prices[0] is None or prices[1] is None else (prices[0], prices[1]),
            image=(image_max_side, image_quality),
        )

    def examine(self) -> None:
        """Check package and key, and that something listens at the URL; no image is sent.

        A server that answers anything, or slowly, is there.

        Raises:
            UserError: httpx or the key is missing, the connection is refused, or the URL is none.
        """
        require_httpx()
        self._key()
        import httpx

        try:
            httpx.get(self.base_url, timeout=REACHING)
        except (httpx.ConnectError, httpx.InvalidURL) as error:
            raise UserError(
                f"{AT}.base_url {self.base_url}: no server can be reached there ({error}); start it, "
                "or correct the URL"
            ) from error
        except httpx.HTTPError:
            return

    def write(self, requests: Sequence[Request], journal: Journal, names: Names) -> Report:
        """Send the requests to the server, many at a time.

        Raises:
            UserError: the key or httpx is missing, or the server rejects key or model.
        """
        ledger = CostLedger(ledger_path(journal.folder), self.max_cost)
        refusals = Refusals(journal.folder)
        unreadable = Unreadable(journal.folder, self.max_unreadable)
        try:
            ledger.catch_up(journal, OWNER)
            left, earlier = self._left(requests, refusals)
            report = Report(cost=None if self.service.prices is None else ledger.paid)
            if left:
                stores = journal, ledger, refusals, unreadable
                report = Asking(self.service, self.limits, self._key(), *stores).ask_all(left)
            missing = (request for request in requests if request.uid not in journal)
            known = [refusals.known.get(self.service.question(r)) for r in missing]
            kinds = [problem.problem for problem in known if problem is not None]
            self._malformed = kinds.count(MALFORMED)
            self._refused = len(kinds) - self._malformed
            self._stop = unreadable.stop
            return replace(report, problems=[*earlier, *report.problems])
        finally:
            ledger.close()
            refusals.close()
            unreadable.close()

    @property
    def cure(self) -> str:
        """What the user does about a stop, and about what the next start does not request again."""
        if self._stop:
            return (
                f"{self._stop}; all are in annotations/{FILE}: change {AT}.response_format, "
                f"{AT}.max_tokens or {AT}.model, or the server's reasoning parser"
            )
        what = {"were refused": self._refused, "got no readable reply": self._malformed}
        listed = " and ".join(f"{count} of them {how}" for how, count in what.items() if count)
        if not listed:
            return super().cure
        return (
            f"{listed}, for the reasons in annotations/problems.csv, "
            "and are not requested again: have these answered by hand or by another annotator, with "
            f"--annotator FromFile --{AT}.path ANSWERS, or set --{AT}.retry_refused true"
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
        return AtMost(sum(self.service.most(request) for request in requests))

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
    if not base_url.startswith(("http://", "https://")):
        raise UserError(f"{AT}.base_url {base_url!r}: give it with http:// or https://")
    if "@" in base_url.split("/")[2]:
        raise UserError(f"{AT}.base_url holds a password; set {AT}.api_key_env instead")
    if (prices[0] is None) != (prices[1] is None):
        raise UserError(f"{AT}: give both prices, price_per_million_input_tokens and …_output_…")
    if cap is not None and prices[0] is None:
        raise UserError(f"{AT}.max_cost needs {AT}.price_per_million_input_tokens and …_output_…")
    for name, (count, least) in counts.items():
        if count < least:
            raise UserError(f"{AT}.{name} {count}: at least {least}")
