"""Every error leaves in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Literal

from server.responses import JsonResponse

MAX_ECHO = 200  # characters of a client's own input that a message may repeat
RETRY_SOON = {"retry-after": "2"}

RejectionReason = Literal[
    "auth",
    "deadline",
    "draining",
    "invalid",
    "not_ready",
    "queue_full",
    "token_backlog",
    "too_large",
]


class ApiError(Exception):
    """A refusal or failure the client is told about.

    ``rejection`` is the reason counted in the metrics when the request never reached the engine.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        rejection: RejectionReason | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.rejection = rejection
        self.headers = headers

    def body(self) -> dict[str, dict[str, str | None]]:
        """The error as OpenAI clients read it."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JsonResponse:
        """The error as an HTTP response."""
        return JsonResponse(self.body(), status_code=self.status, headers=self.headers)


def shorten(text: str, limit: int = MAX_ECHO) -> str:
    """Repeat no more than ``limit`` characters of what a client sent."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """The request asks for something that is wrong or not supported."""
    return ApiError(400, message, param=param, code=code, rejection="invalid")


def unknown_model(model: str, served: tuple[str, ...]) -> ApiError:
    """The request names a model that is not served here."""
    message = f"The model '{shorten(model)}' is not served here; served: {', '.join(served)}"
    return ApiError(404, message, param="model", code="model_not_found", rejection="invalid")


def context_exceeded(prompt: int, answer: int, limit: int, param: str) -> ApiError:
    """Prompt and answer together are longer than the model or its cache can hold."""
    message = (
        f"This model's maximum context length is {limit} tokens. However, you requested "
        f"{prompt + answer} tokens ({prompt} in the prompt, {answer} in the answer). "
        "Shorten the prompt or the answer."
    )
    return invalid(message, param, "context_length_exceeded")


def body_too_large(limit: int) -> ApiError:
    """The body is over the limit."""
    message = f"The request body is larger than {limit} bytes"
    return ApiError(413, message, code="request_too_large", rejection="too_large")


def body_too_slow(seconds: float) -> ApiError:
    """The promised body did not arrive."""
    message = f"The request body did not arrive within {seconds:g} seconds"
    return ApiError(408, message, code="request_timeout", rejection="deadline")


def headers_too_slow(seconds: float) -> ApiError:
    """The head of a request did not arrive."""
    message = f"The headers of the request did not arrive within {seconds:g} seconds"
    return ApiError(408, message, code="request_timeout", rejection="deadline")


def malformed_request(status: int, reason: str) -> ApiError:
    """What arrived is no HTTP request, or one with too large a head (status 431)."""
    message = f"Not a request that can be read: {shorten(reason)}"
    return ApiError(status, message, code="malformed_request", rejection="invalid")


def unauthorized() -> ApiError:
    """The API key is missing or wrong."""
    return ApiError(
        401,
        "A valid API key is required: send it as 'Authorization: Bearer KEY'",
        code="invalid_api_key",
        rejection="auth",
        headers={"www-authenticate": "Bearer"},
    )


def not_ready(reason: str) -> ApiError:
    """No engine can take the request now."""
    return ApiError(
        503,
        f"The server is not ready: {reason}",
        kind="server_error",
        code="not_ready",
        rejection="not_ready",
        headers=RETRY_SOON,
    )


def draining() -> ApiError:
    """The server shuts down; whoever asks again should not do so on this connection."""
    return ApiError(
        503,
        "The server is shutting down",
        kind="server_error",
        code="draining",
        rejection="draining",
        headers={**RETRY_SOON, "connection": "close"},
    )


def queue_full(limit: int, seconds: int, *, of_key: bool = False) -> ApiError:
    """As many answers as are allowed are in progress."""
    whose = " for this API key" if of_key else ""
    message = f"{limit} answers are in progress{whose}: as many as may be"
    return _overloaded(message, "queue_full", seconds)


def backlogged(seconds: int) -> ApiError:
    """The prompts that wait would keep this one waiting for too long."""
    return _overloaded("Too many prompt tokens are waiting to be read", "token_backlog", seconds)


def _overloaded(message: str, reason: RejectionReason, seconds: int) -> ApiError:
    return ApiError(
        429,
        f"{message}. Please retry after {seconds} s",
        kind="rate_limit_error",
        code=reason,
        rejection=reason,
        headers={"retry-after": str(seconds)},
    )


def deadline_exceeded(seconds: float, *, before_work: bool = False) -> ApiError:
    """The time that the client gave for an answer is over."""
    return ApiError(
        408,
        f"The answer was not complete within the {seconds:g} seconds that the request allows",
        code="deadline_exceeded",
        rejection="deadline" if before_work else None,
    )


def engine_died() -> ApiError:
    """The worker was lost while it computed this answer."""
    message = "The engine stopped before the answer was complete. Please retry"
    return ApiError(503, message, kind="server_error", code="engine_died", headers=RETRY_SOON)


def engine_aborted() -> ApiError:
    """The engine gave the request up, for example because it shuts down."""
    message = "The engine ended this request early. Please retry"
    return ApiError(503, message, kind="server_error", code="aborted", headers=RETRY_SOON)


def choice_failed(reason: str | None) -> ApiError:
    """The engine could not compute one choice; other requests are unaffected."""
    message = f"The engine failed on this request: {reason or 'no reason was given'}"
    return ApiError(500, shorten(message, 1000), kind="server_error", code="engine_error")


def internal_error(request_id: str) -> ApiError:
    """A bug of ours: the details are in the log, under the request id."""
    message = f"Internal server error. The log has the details under request id {request_id}"
    return ApiError(500, message, kind="server_error", code="internal_error")


def http_error(status: int, headers: Mapping[str, str] | None = None) -> ApiError:
    """What the router itself refuses: unknown paths, methods that a path does not have."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return ApiError(status, HTTPStatus(status).phrase, kind=kind, headers=headers)
