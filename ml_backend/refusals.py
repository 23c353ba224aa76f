"""Calls to Label Studio: retried when that is safe, and every refusal said in one clear line.

The line names what to change. Label Studio's own text is quoted only where it cannot hold what a
task says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import httpx
from label_studio_sdk.core.api_error import ApiError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from label_config.errors import ServerError, ServerRefused, ServerUnreachable

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.5
BUSY = (429, 502, 503, 504)
QUOTED = 300


class Caller:
    """Calls the SDK for one server; raises ServerUnreachable and ServerRefused only."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, what: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that may be called twice; `what` continues "cannot ..."."""
        return self._call(what, _may_pass, lambda: function(*args, **kwargs))

    def once(self, what: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that must not act twice: retried only if nothing was sent."""
        return self._call(what, _was_not_sent, lambda: function(*args, **kwargs))

    def _call(
        self, what: str, is_worth: Callable[[BaseException], bool], run: Callable[[], T]
    ) -> T:
        attempts = Retrying(
            retry=retry_if_exception(is_worth),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(FIRST_WAIT_SECONDS),
            reraise=True,
        )
        try:
            return attempts(run)
        except httpx.TransportError as error:
            raise self._unreachable(what, error) from None
        except ApiError as error:
            raise explain(error, what=what, url=self.url) from None

    def _unreachable(self, what: str, error: httpx.TransportError) -> ServerUnreachable:
        if isinstance(error, httpx.TimeoutException):
            return ServerUnreachable(f"cannot {what}: Label Studio at {self.url} took too long")
        return ServerUnreachable(
            f"cannot {what}: nothing answers at {self.url}; is Label Studio running, and is the "
            "address right?"
        )


def explain(error: ApiError, *, what: str, url: str) -> ServerError:
    """The refusal as one line that says what to change."""
    said = " ".join(_texts(error.body))
    for pattern, line in _KNOWN:
        if re.search(pattern, said, re.IGNORECASE):
            return ServerRefused(f"cannot {what}: {line}")
    if error.status_code == 401:
        return ServerRefused(
            f"cannot {what}: Label Studio at {url} refused the token; take a valid one from its "
            "Account & Settings page (CLINICOCO_LABEL_STUDIO_TOKEN)"
        )
    if error.status_code == 403:
        return ServerRefused(f"cannot {what}: the token's user lacks the permission for it")
    if error.status_code == 404:
        return ServerRefused(
            f"cannot {what}: Label Studio at {url} does not have it; was the project deleted, or "
            "does the token belong to another organization?"
        )
    if error.status_code in BUSY:
        return ServerUnreachable(f"cannot {what}: Label Studio at {url} is busy or restarting")
    if not isinstance(error.body, dict):
        return ServerRefused(f"cannot {what}: {url} answers, but not as Label Studio does")
    quoted = re.sub(r"(<[^>]*>|\s)+", " ", said)[:QUOTED].strip()
    return ServerRefused(f"cannot {what}: Label Studio answered {error.status_code}: {quoted}")


_KNOWN = (
    (
        "legacy token authentication has been disabled",
        "its organization has legacy tokens disabled; use a personal access token (Account & "
        "Settings), or enable legacy tokens under Organization > API Tokens Settings",
    ),
    (
        "API key has expired",
        "the personal access token has expired; make a new one (Account & Settings)",
    ),
    (
        "reserved network address|ssrf|URL is not allowed",
        "Label Studio blocks private and loopback addresses; start it with ML_BLOCK_LOCAL_IP=0 and "
        "SSRF_PROTECTION_ENABLED=0, or give the backend a public address",
    ),
    (
        "Enter a valid URL",
        "Label Studio takes no webhook for a host name without a dot; give the backend an IP "
        "address, localhost, host.docker.internal, or an alias with a dot such as "
        "ml-backend.internal (CLINICOCO_BACKEND_URL)",
    ),
    (
        "authentication parameters were either not provided or are incorrect",
        "the backend refused the user or password that Label Studio was given "
        "(CLINICOCO_BACKEND_USER, CLINICOCO_BACKEND_PASSWORD)",
    ),
    (
        "Can't connect to ML backend",
        "Label Studio cannot reach the backend; start it (`clinicoco serve`) and check that its "
        "address is right from Label Studio's machine (CLINICOCO_BACKEND_URL)",
    ),
    (
        "doesn't look like a valid ML backend",
        "Label Studio reached the backend, but /setup failed; the backend's log says why",
    ),
    (
        "Created annotations are incompatible",
        "annotations in the project use a control that the new interface lacks; make a new project",
    ),
)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, ApiError):
        return error.status_code in BUSY
    return isinstance(error, httpx.TransportError)


def _was_not_sent(error: BaseException) -> bool:
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def _texts(body: Any) -> list[str]:
    """Every text in an error body: the detail and the messages of each field."""
    if isinstance(body, str):
        return [body]
    if isinstance(body, dict):
        skipped = ("id", "version", "status_code", "exc_info")
        return [text for key, part in body.items() if key not in skipped for text in _texts(part)]
    return [text for part in body for text in _texts(part)] if isinstance(body, list) else []
