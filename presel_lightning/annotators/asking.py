"""One start of asking a chat server: many requests at a time, each until it is settled."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from presel_lightning.annotators.base import AnswerProblem, Report, Request
from presel_lightning.annotators.journal import Journal
from presel_lightning.annotators.ledger import ANSWERED, MALFORMED, REFUSED, CostLedger, Row
from presel_lightning.annotators.pace import Pace, backoff, retry_after
from presel_lightning.annotators.progress import progress
from presel_lightning.annotators.refusals import Refusals
from presel_lightning.annotators.wire import (
    FORM,
    Malformed,
    Refused,
    Usage,
    conversation_of,
    image_url,
    messages,
    usage_of,
)
from presel_lightning.errors import UserError
from presel_lightning.run.fingerprint import fingerprint

if TYPE_CHECKING:
    import httpx

OWNER = "OpenAICompatible"
"""Name under which answers are kept."""

IMAGE_TOKENS = 26_000
"""Tokens that an image of 1024 pixels may be at most, as long as no reply has told better."""

MARGIN = 1.5
"""How much longer than the longest prompt so far the next one may be."""

IN_A_ROW = 10
"""Images given up one after the other, none answered in between, after which a start ends."""

AGAIN = {408, 409, 425}
"""Statuses below 500 after which another try may be better, beside 429."""

WRONG = {401, 403, 404}
"""Statuses that say that key, model or address are wrong, for every image alike."""


@dataclass(frozen=True)
class Limits:
    """How hard a server is pressed; see `OpenAICompatible`."""

    concurrency: int
    requests_per_minute: float | None
    max_retries: int
    backoff: float
    patience: float
    timeout: float


@dataclass(frozen=True)
class Service:
    """What is asked, and what it costs.

    Attributes:
        url: of the endpoint.
        body: fields of every request.
        max_tokens: longest answer.
        prices: of a million prompt and completion tokens; None where unknown.
        image: longest side in pixels and JPEG quality.
    """

    url: str
    body: dict[str, Any]
    max_tokens: int
    prices: tuple[float, float] | None
    image: tuple[int, int]

    def question(self, request: Request) -> str:
        """Name a request by all that the answer depends on."""
        return fingerprint([request.uid, request.prompt, self.body, self.image])

    def price(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost."""
        into, out = self.prices or (0.0, 0.0)
        return (prompt_tokens * into + completion_tokens * out) / 1e6

    def most(self, request: Request, longest: int = 0) -> float:
        """What a request may cost.

        Args:
            request: what is asked.
            longest: prompt tokens of the longest request so far; 0 where none is known.
        """
        guess = len(FORM + request.prompt) / 2 + IMAGE_TOKENS
        return self.price(MARGIN * longest or guess, self.max_tokens)

    def cost(self, reply: object, usage: Usage, most: float) -> float | None:
        """What a completion did cost; the most it may have been where its tokens are not told."""
        if self.prices is None or not (isinstance(reply, dict) and "choices" in reply):
            return None
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return most
        return self.price(usage.prompt_tokens, usage.completion_tokens)


@dataclass(frozen=True)
class Attempt:
    """What became of a request that was sent.

    Attributes:
        status: as the ledger has it.
        detail: for a person.
        again: whether another try may be better.
        wait: seconds that the server asks for.
    """

    status: str
    detail: str = ""
    again: bool = False
    wait: float = 0.0


class Asking:
    """Asks for instructions until all are there, or no more may be asked for.

    Args:
        service: what is asked.
        limits: how hard.
        key: secret; goes into a header of the requests and nowhere else.
        journal: where answers are kept.
        ledger: where requests are entered.
        refusals: where it is kept what will not be answered.
    """

    def __init__(
        self,
        service: Service,
        limits: Limits,
        key: str | None,
        journal: Journal,
        ledger: CostLedger,
        refusals: Refusals,
    ) -> None:
        self.service, self.limits = service, limits
        self.journal, self.ledger, self.refusals = journal, ledger, refusals
        self._key = key
        self._pace = Pace(limits.requests_per_minute)
        self._failed = 0
        self._mistake = ""
        self._lock = threading.Lock()

    def ask_all(self, requests: Sequence[Request]) -> Report:
        """Ask for every instruction; what could not be had is told."""
        problems: list[AnswerProblem] = []
        priced = self.service.prices is not None
        with (
            _client(self._key, self.limits) as client,
            ThreadPoolExecutor(self.limits.concurrency) as threads,
            progress(len(requests)) as show,
        ):
            under_way = [threads.submit(self._settle, client, request) for request in requests]
            try:
                for future in as_completed(under_way):
                    if (problem := future.result()) is not None:
                        problems.append(problem)
                    show(self.ledger.spent if priced else None)
            except BaseException:
                self._pace.stop("broken off")
                raise
        problems.sort(key=lambda problem: problem.uid)
        told = {problem.uid for problem in problems}
        left = sum(r.uid not in self.journal and r.uid not in told for r in requests)
        notes = [f"stopped: {self._pace.reason}; {left} images are left"] if left else []
        return Report(problems, notes, self.ledger.spent if priced else None, self._mistake)

    def _settle(self, client: httpx.Client, request: Request) -> AnswerProblem | None:
        """Ask until there is an answer, or it is given up; None also where asking has stopped."""
        if self._pace.stopped:
            return None
        try:
            url = image_url(request.path, *self.service.image, request.pixels)
        except OSError as error:
            return _problem(request, "unreadable", str(error.strerror or type(error).__name__))
        except UserError as error:
            return _problem(request, "oversized", str(error))
        body = {**self.service.body, "messages": messages(request.prompt, url)}
        number = 1
        while (attempt := self._try(client, request, body, number)) is not None:
            if attempt.status == ANSWERED:
                self._failed = 0
                return None
            if not attempt.again or number > self.limits.max_retries:
                self._count_failure(attempt)
                detail = f"attempt {number}: {attempt.detail}"
                problem = _problem(request, attempt.status, detail)
                if attempt.status in (REFUSED, MALFORMED):
                    self.refusals.add(self.service.question(request), problem)
                return problem
            if not self._wait(attempt, number):
                return None
            number += 1
        return None

    def _wait(self, attempt: Attempt, number: int) -> bool:
        """Wait before the next attempt; False if there shall be none."""
        if attempt.wait > self.limits.patience:
            self._pace.stop(f"the server asks to wait {attempt.wait:.0f} s")
            return False
        if attempt.wait:
            self._pace.hold(attempt.wait)
        return self._pace.sleep(backoff(number, self.limits.backoff))

    def _count_failure(self, attempt: Attempt) -> None:
        if attempt.status == REFUSED:  # that is about the image
            return
        with self._lock:
            self._failed += 1
            failed = self._failed
        if failed >= IN_A_ROW:
            self._pace.stop(f"{failed} images in a row failed, the last with {attempt.detail}")

    def _try(
        self, client: httpx.Client, request: Request, body: dict[str, Any], number: int
    ) -> Attempt | None:
        """Send a request and enter it; None if no more may be sent."""
        if self._pace.stopped:
            return None
        most = self.ledger.reserve(partial(self.service.most, request))
        if most is None:
            spent = f"{self.ledger.spent:.4f} of max_cost {self.ledger.cap}"
            next_ = self.service.most(request, self.ledger.longest)
            self._pace.stop(f"{spent} is spent and the next image may cost {next_:.4f}")
            return None
        try:
            if not self._pace.wait_turn():
                return None
            return self._send(client, request, body, number, most)
        finally:
            self.ledger.release(most)

    def _send(
        self, client: httpx.Client, request: Request, body: dict[str, Any], number: int, most: float
    ) -> Attempt:
        import httpx

        start = time.perf_counter()
        usage, cost = Usage(), None
        try:
            response = client.post(self.service.url, json=body)
        except httpx.TimeoutException:
            attempt = Attempt("timeout", f"no reply in {self.limits.timeout:g} s", again=True)
        except httpx.RequestError as error:
            attempt = Attempt("unreachable", self._clean(str(error)), again=True)
        else:
            reply = _decoded(response)
            if response.is_success:
                usage = usage_of(reply)
                cost = self.service.cost(reply, usage, most)
                attempt = self._take(request, reply, usage, cost)
            else:
                attempt = self._failure(response, reply)
        took = round(time.perf_counter() - start, 3)
        tokens = usage.prompt_tokens, usage.completion_tokens
        self.ledger.enter(Row(request.uid, number, *tokens, cost, took, attempt.status))
        return attempt

    def _take(self, request: Request, reply: object, usage: Usage, cost: float | None) -> Attempt:
        """Keep the answer of a reply."""
        try:
            conversation = conversation_of(reply, request.image)
        except Malformed as error:
            return Attempt(MALFORMED, self._clean(str(error)), again=True)
        except Refused as error:
            return Attempt(REFUSED, self._clean(str(error)))
        counts = {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
        }
        self.journal.add(
            request.uid,
            request.image,
            conversation,
            OWNER,
            model=str(self.service.body["model"]),
            usage={name: count for name, count in counts.items() if count is not None} or None,
            cost=cost,
        )
        return Attempt(ANSWERED)

    def _failure(self, response: httpx.Response, reply: object) -> Attempt:
        """What a reply without success means."""
        status = response.status_code
        told = f"HTTP {status} {self._message(reply)}".strip()
        if status in WRONG or response.is_redirect:
            self._pace.stop(told)
            self._mistake = (
                f"{self.service.url}: {told}; check annotator.init_args.base_url and model, and "
                "the key in the environment variable that api_key_env names"
            )
        if status == 429:
            if "insufficient_quota" in str(reply):
                self._pace.stop(told)
            wait = retry_after(response.headers.get("retry-after"))
            return Attempt("rate_limited", told, again=True, wait=wait)
        again = status >= 500 or status in AGAIN
        wait = retry_after(response.headers.get("retry-after")) if again else 0.0
        return Attempt(f"http_{status}", told, again, wait)

    def _message(self, reply: object) -> str:
        error = reply.get("error", reply) if isinstance(reply, dict) else None
        message = error.get("message", error) if isinstance(error, dict) else error
        return self._clean(str(message or ""))

    def _clean(self, text: str) -> str:
        """One short line that never holds the key, whatever a server sends back."""
        text = text.replace(self._key, "***") if self._key else text
        return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())[:200]


def _problem(request: Request, problem: str, detail: str) -> AnswerProblem:
    return AnswerProblem(request.uid, request.image, problem, detail)


def _decoded(response: httpx.Response) -> object:
    try:
        reply: object = response.json()
    except ValueError:
        return None
    return reply


def _client(key: str | None, limits: Limits) -> httpx.Client:
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise UserError(
            "OpenAICompatible needs httpx; install it with `pip install 'presel-lightning[api]'`"
        ) from error
    # it tells of every request
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return httpx.Client(
        headers={} if key is None else {"Authorization": f"Bearer {key}"},
        timeout=limits.timeout,
        limits=httpx.Limits(max_connections=limits.concurrency),
    )
