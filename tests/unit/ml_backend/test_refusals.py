"""Every refusal becomes one line that says what to change."""

from __future__ import annotations

import httpx
import pytest
from label_studio_sdk.core.api_error import ApiError

from label_config.errors import ServerRefused, ServerUnreachable
from ml_backend import refusals
from ml_backend.refusals import Caller, explain

URL = "http://127.0.0.1:8080"


def field_error(name: str, text: str) -> dict[str, object]:
    return {"id": "c906", "status_code": 400, "validation_errors": {name: [text]}}


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (
            401,
            {
                "detail": "Authentication token no longer valid: legacy token authentication has "
                "been disabled for this organization"
            },
            "use a personal access token",
        ),
        (401, {"detail": "Invalid token."}, "refused the token"),
        (401, {"detail": "API key has expired. Please obtain a new one."}, "has expired"),
        (
            403,
            {"detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"},
            "ML_BLOCK_LOCAL_IP=0 and SSRF_PROTECTION_ENABLED=0",
        ),
        (403, {"detail": "No."}, "lacks the permission"),
        (400, field_error("url", "Enter a valid URL."), "host name without a dot"),
        (
            400,
            field_error("non_field_errors", "Can't connect to ML backend http://x, health check"),
            "cannot reach the backend",
        ),
        (
            400,
            field_error("non_field_errors", "connected to x but it doesn't look like a valid ML "
                        "backend. Reason: 500"),
            "/setup failed",
        ),
        (
            400,
            field_error("non_field_errors", "Able to connect to ML Server, but authentication "
                        "parameters were either not provided or are incorrect."),
            "CLINICOCO_BACKEND_PASSWORD",
        ),
        (
            400,
            field_error("label_config", "Created annotations are incompatible with provided"),
            "make a new project",
        ),
        (400, field_error("label_config", "mismatched <b>tag</b>"), "400: mismatched tag"),
        (404, {"detail": "No Project matches the given query."}, "was the project deleted"),
        (200, "<html>Welcome to nginx</html>", "not as Label Studio does"),
        (413, "too large", "not as Label Studio does"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_change(status: int, body: object, advice: str) -> None:
    error = explain(ApiError(status_code=status, body=body), what="push", url=URL)
    assert isinstance(error, ServerRefused)
    assert str(error).startswith("cannot push: ")
    assert advice in str(error)
    assert "\n" not in str(error)


def test_a_busy_server_counts_as_unreachable() -> None:
    error = explain(ApiError(status_code=503, body="<html>"), what="pull", url=URL)
    assert isinstance(error, ServerUnreachable)


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> Caller:
    monkeypatch.setattr(refusals, "FIRST_WAIT_SECONDS", 0.0)
    return Caller(URL)


class Flaky:
    """Fails as told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def test_a_call_that_may_be_repeated_survives_a_restart_of_the_server(caller: Caller) -> None:
    call = Flaky(httpx.ConnectError(""), ApiError(status_code=502, body=""), httpx.ReadTimeout(""))
    assert caller("read", call) == "done"


def test_a_call_that_acts_is_repeated_only_if_it_was_never_sent(caller: Caller) -> None:
    assert caller.once("import", Flaky(httpx.ConnectError(""))) == "done"
    lost = Flaky(httpx.ReadTimeout(""))
    with pytest.raises(ServerUnreachable, match=r"cannot import: .* took too long"):
        caller.once("import", lost)
    assert lost.calls == 1


def test_a_refusal_is_not_repeated(caller: Caller) -> None:
    call = Flaky(ApiError(status_code=401, body={"detail": "Invalid token."}))
    with pytest.raises(ServerRefused):
        caller("read", call)
    assert call.calls == 1


def test_a_dead_address_is_given_up_after_a_few_attempts(caller: Caller) -> None:
    call = Flaky(*[httpx.ConnectError("")] * 10)
    with pytest.raises(ServerUnreachable, match="nothing answers at http://127"):
        caller("read", call)
    assert call.calls == refusals.ATTEMPTS
