"""One pass of requests to a chat server: many at a time, each with retries."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from presel_lightning.annotators.base import AnswerProblem, Report, Request
from presel_lightning.annotators.journal import Journal
from presel_lightning.annotators.ledger import ANSWERED, MALFORMED, REFUSED, CostLedger, Row
from presel_lightning.annotators.pace import Pace, backoff, retry_after
from presel_lightning.annotators.progress import progress
from presel_lightning.annotators.refusals import Refusals
from presel_lightning.annotators.replies import Malformed, Refused, conversation_of
from presel_lightning.annotators.unreadable import Unreadable
from presel_lightning.annotators.wire import (
    FORM,
    Usage,
    image_url,
    messages,
    usage_of,
    with_reason,
)
from presel_lightning.errors import UserError
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.interruption import held

if TYPE_CHECKING:
    import httpx

OWNER = "OpenAICompatible"
"""Annotator name of the answers in the journal."""

IMAGE_TOKENS = 26_000
"""Upper bound on the tokens of an image of 1024 pixels, used before the first reply."""

MARGIN = 1.5
"""Assumed ratio of the next prompt's length to the longest so far."""

MAX_CONSECUTIVE_FAILURES = 10
"""Consecutive failures after which no more requests are sent."""

RETRYABLE = {408, 409, 425}
"""HTTP statuses below 500 that are retried, in addition to 429."""

WRONG = {401, 403, 404}
"""HTTP statuses of a wrong key, model or address, which every request would get."""


@dataclass(frozen=True)
class Limits:
    """Limits on the requests; see `OpenAICompatible`."""

    concurrency: int
    requests_per_minute: float | None
    max_retries: int
    backoff: float
    patience: float
    timeout: float


@dataclass(frozen=True)
class Service:
    """Endpoint, request body and prices.

    Attributes:
        url: URL of the endpoint.
        body: fields of every request.
        max_tokens: longest answer, in tokens.
        prices: prices of a million prompt and completion tokens; None where unknown.
        image: longest side in pixels, and JPEG quality.
    """

    url: str
    body: dict[str, Any]
    max_tokens: int
    prices: tuple[float, float] | None
    image: tuple[int, int]

    def question(self, request: Request) -> str:
        """Return the fingerprint of a request: the hash of all that the answer depends on."""
        return fingerprint([request.uid, request.prompt, self.body, self.image])

    def price(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Compute the cost of a number of tokens."""
        into, out = self.prices or (0.0, 0.0)
        return (prompt_tokens * into + completion_tokens * out) / 1e6

    def most(self, request: Request, longest: int = 0) -> float:
        """Compute an upper bound on the cost of a request.

        Args:
            request: the request.
            longest: prompt tokens of the longest request so far; 0 where none is known.
        """
        guess = len(FORM + request.prompt) / 2 + IMAGE_TOKENS * len(request.paths)
        return self.price(MARGIN * longest or guess, self.max_tokens)

    def cost(self, reply: object, usage: Usage, most: float) -> float | None:
        """Compute the cost of a completion; the upper bound where the usage is not reported."""
        if self.prices is None or not (isinstance(reply, dict) and "choices" in reply):
            return None
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return most
        return self.price(usage.prompt_tokens, usage.completion_tokens)


@dataclass(frozen=True)
class Attempt:
    """Outcome of a request that was sent.

    Attributes:
        status: status in the ledger.
        detail: description for the user.
        reason: description for the model, in the next request.
        again: whether to retry.
        wait: seconds of the server's `Retry-After`.
    """

    status: str
    detail: str = ""
    reason: str = ""
    again: bool = False
    wait: float = 0.0


class Asking:
    """Requests instructions until all are answered, or a limit is reached.

    Args:
        service: endpoint, request body and prices.
        limits: limits on the requests.
        key: API key; used only in a header of the requests.
        journal: stores the answers.
        ledger: records the requests and their cost.
        refusals: stores the refusals.
        unreadable: stores the replies that cannot be read, and limits them.
    """

    def __init__(
        self,
        service: Service,
        limits: Limits,
        key: str | None,
        journal: Journal,
        ledger: CostLedger,
        refusals: Refusals,
        unreadable: Unreadable,
    ) -> None:
        self.service, self.limits = service, limits
        self.journal, self.ledger = journal, ledger
        self.refusals, self.unreadable = refusals, unreadable
        self._key = key
        self._pace = Pace(limits.requests_per_minute)
        self._failed = 0
        self._mistake = ""
        self._lock = threading.Lock()

    def ask_all(self, requests: Sequence[Request]) -> Report:
        """Request every instruction; the report lists the failures."""
        problems: list[AnswerProblem] = []
        priced = self.service.prices is not None
        with (
            held(lambda _: self._pace.stop("interrupted")),  # those under way are paid for
            _client(self._key, self.limits) as client,
            ThreadPoolExecutor(self.limits.concurrency) as threads,
            progress(len(requests)) as show,
        ):
            futures = [threads.submit(self._settle, client, request) for request in requests]
            try:
                for future in as_completed(futures):
                    if (problem := future.result()) is not None:
                        problems.append(problem)
                    show(self.ledger.spent if priced else None)
            except BaseException:
                self._pace.stop("interrupted")
                raise
        if not self.unreadable.stop:
            self.refusals.confirm()
        problems.sort(key=lambda problem: problem.uid)
        failed = {problem.uid for problem in problems}
        left = sum(r.uid not in self.journal and r.uid not in failed for r in requests)
        stopped = self._pace.reason and (left or self.unreadable.stop)
        notes = [f"stopped: {self._pace.reason}; {left} images are left"] if stopped else []
        return Report(problems, notes, self.ledger.paid if priced else None, self._mistake)

    def _settle(self, client: httpx.Client, request: Request) -> AnswerProblem | None:
        """Send a request with retries; None if it is answered or requests have stopped."""
        if self._pace.stopped:
            return None
        try:
            read = *self.service.image, request.pixels
            urls = [image_url(path, *read) for path in request.paths]
        except OSError as error:
            return _problem(request, "unreadable", str(error.strerror or type(error).__name__))
        except UserError as error:
            return _problem(request, "oversized", str(error))
        number, prompt = 1, request.prompt
        while True:
            body = {**self.service.body, "messages": messages(prompt, *urls)}
            attempt = self._try(client, request, body, number)
            if attempt is None:
                return None
            if attempt.status == ANSWERED:
                self._failed = 0
                return None
            if not attempt.again or number > self.limits.max_retries:
                return self._give_up(request, attempt, number)
            if not self._wait(attempt, number):
                return None
            number += 1
            prompt = with_reason(request.prompt, attempt.reason)

    def _give_up(self, request: Request, attempt: Attempt, number: int) -> AnswerProblem:
        """List a request as a problem; see `Refusals` on which are not sent again."""
        self._count_failure(attempt)
        problem = _problem(request, attempt.status, f"attempt {number}: {attempt.detail}")
        question = self.service.question(request)
        if attempt.status == REFUSED:
            self.refusals.add(question, problem)
        if attempt.status == MALFORMED:
            self.refusals.suspect(question, problem)
        return problem

    def _wait(self, attempt: Attempt, number: int) -> bool:
        """Wait before the next attempt; return False if there is none."""
        if attempt.wait > self.limits.patience:
            self._pace.stop(
                f"the server asks to wait {attempt.wait:.0f} s, more than "
                "annotator.init_args.patience"
            )
            return False
        if attempt.wait:
            self._pace.hold(attempt.wait)
        return self._pace.sleep(backoff(number, self.limits.backoff))

    def _count_failure(self, attempt: Attempt) -> None:
        if attempt.status == REFUSED:  # a refusal concerns the image, not the server
            return
        with self._lock:
            self._failed += 1
            failed = self._failed
        if failed >= MAX_CONSECUTIVE_FAILURES:
            self._pace.stop(f"{failed} images in a row failed, the last with {attempt.detail}")

    def _try(
        self, client: httpx.Client, request: Request, body: dict[str, Any], number: int
    ) -> Attempt | None:
        """Send a request and record it; None if no more may be sent."""
        if self._pace.stopped:
            return None
        most = self.ledger.reserve(partial(self.service.most, request))
        if most is None:
            spent = f"{self.ledger.spent:.4f} of max_cost {self.ledger.cap}"
            next_ = self.service.most(request, self.ledger.longest)
            self._pace.stop(
                f"{spent} is spent and the next image can cost up to {next_:.4f}; raise "
                "annotator.init_args.max_cost"
            )
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
                if attempt.status == MALFORMED:
                    self._keep(request, number, attempt, response.text)
            else:
                attempt = self._failure(response, reply)
        took = round(time.perf_counter() - start, 3)
        tokens = usage.prompt_tokens, usage.completion_tokens
        self.ledger.enter(Row(request.uid, number, *tokens, cost, took, attempt.status))
        return attempt

    def _take(self, request: Request, reply: object, usage: Usage, cost: float | None) -> Attempt:
        """Store the answer of a reply."""
        try:
            conversation = conversation_of(reply, request.images)
        except Malformed as error:
            detail, reason = self._clean(str(error)), self._clean(error.reason)
            return Attempt(MALFORMED, detail, reason, again=True)
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
        self.unreadable.readable()
        self.refusals.confirm()
        return Attempt(ANSWERED)

    def _keep(self, request: Request, number: int, attempt: Attempt, reply: str) -> None:
        """Store a reply that cannot be read; stop where too many follow each other."""
        if self.unreadable.add(request, number, attempt.detail, self._masked(reply)):
            self._pace.stop(self.unreadable.stop)

    def _failure(self, response: httpx.Response, reply: object) -> Attempt:
        """Classify an unsuccessful reply."""
        status = response.status_code
        message = f"HTTP {status} {self._message(reply)}".strip()
        if status in WRONG or response.is_redirect:
            self._pace.stop(message)
            self._mistake = (
                f"{self.service.url}: {message}; check annotator.init_args.base_url and model, and "
                "the key in the environment variable that api_key_env names"
            )
        if status == 429:
            if "insufficient_quota" in str(reply):
                self._pace.stop(message)
            wait = retry_after(response.headers.get("retry-after"))
            return Attempt("rate_limited", message, again=True, wait=wait)
        again = status >= 500 or status in RETRYABLE
        wait = retry_after(response.headers.get("retry-after")) if again else 0.0
        return Attempt(f"http_{status}", message, again=again, wait=wait)

    def _message(self, reply: object) -> str:
        error = reply.get("error", reply) if isinstance(reply, dict) else None
        message = error.get("message", error) if isinstance(error, dict) else error
        return self._clean(str(message or ""))

    def _clean(self, text: str) -> str:
        """Shorten a text to one line, with the API key masked."""
        text = self._masked(text).encode("utf-8", "replace").decode("utf-8")
        return " ".join(text.split())[:200]

    def _masked(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _problem(request: Request, problem: str, detail: str) -> AnswerProblem:
    return AnswerProblem(request.uid, request.image, problem, detail)


def _decoded(response: httpx.Response) -> object:
    try:
        reply: object = response.json()
    except (ValueError, RecursionError):
        return None
    return reply


def require_httpx() -> None:
    """Check that the HTTP client is installed; its log of every request is silenced.

    Raises:
        UserError: it is not.
    """
    if find_spec("httpx") is None:
        raise UserError(
            "OpenAICompatible needs httpx; install it with `pip install 'presel-lightning[api]'`"
        )
    # httpx logs every request at INFO
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _client(key: str | None, limits: Limits) -> httpx.Client:
    require_httpx()
    import httpx

    return httpx.Client(
        headers={} if key is None else {"Authorization": f"Bearer {key}"},
        timeout=limits.timeout,
        limits=httpx.Limits(max_connections=limits.concurrency),
    )
