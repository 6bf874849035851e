"""What the API promises of every answer, as a document for tools and as a check of our own."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from server.schemas import ChatBody, CompletionBody, DetokenizeBody, TokenizeBody
from server.strict_body import StrictBody

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TOKENIZE, DETOKENIZE = "/tokenize", "/detokenize"
BODIES: Mapping[str, type[StrictBody]] = {
    CHAT: ChatBody,
    COMPLETIONS: CompletionBody,
    TOKENIZE: TokenizeBody,
    DETOKENIZE: DetokenizeBody,
}
STATUSES: Mapping[str, frozenset[int]] = {
    CHAT: frozenset({200, 400, 404, 408, 413, 429, 503}),
    COMPLETIONS: frozenset({200, 400, 404, 408, 413, 429, 503}),
    TOKENIZE: frozenset({200, 400, 404, 408, 413}),
    DETOKENIZE: frozenset({200, 400, 404, 408, 413}),
}
_PAGES = ("/health", "/ready", "/version", "/v1/models")
_MOST_ECHOED = 1200  # characters of a whole error, a few hundred of them the client's own
_JSON, _EVENTS = "application/json", "text/event-stream"
_MODE: Literal["validation"] = "validation"
_REF = "#/components/schemas/{model}"

_TEXT_OR_NULL = {"type": ["string", "null"]}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
            "properties": {
                "message": {"type": "string", "maxLength": _MOST_ECHOED},
                "type": {"enum": ["invalid_request_error", "rate_limit_error", "server_error"]},
                "param": _TEXT_OR_NULL,
                "code": _TEXT_OR_NULL,
            },
        }
    },
}
_ANSWER = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage", "decoding"],
    "properties": {"choices": {"type": "array", "minItems": 1}},
}
_EVENT = {  # of a stream, as tools read one
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string"}},
}
_TOKENS = {"type": "object", "required": ["tokens", "count", "max_model_len"]}
_PROMPT = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "items": {"type": "integer", "minimum": 0}},
    ]
}


def fault_in(path: str, status: int, kind: str, body: bytes) -> str:
    """What is wrong with an answer; nothing if it is as promised."""
    if status not in STATUSES[path]:
        return f"status {status}: {body[:300]!r}"
    if kind.startswith(_EVENTS):
        return _fault_in_stream(body)
    if not kind.startswith(_JSON):
        return f"content type {kind}"
    return "" if status == 200 else fault_in_error(body)


def fault_in_error(body: bytes) -> str:
    """What is wrong with the body of an error."""
    try:
        error = TypeAdapter(dict[str, dict[str, str | None]]).validate_json(body)["error"]
    except (ValueError, LookupError):
        return f"an error in another shape: {body[:300]!r}"
    if error.keys() != {"message", "type", "param", "code"}:
        return f"an error with the fields {sorted(error)}"
    return "" if len(body) <= _MOST_ECHOED else f"an error of {len(body)} bytes"


def _fault_in_stream(body: bytes) -> str:
    *events, last = body.decode().strip().split("\n\n")
    if last == "data: [DONE]":
        return "" if all(map(_is_event, events)) else "a stream with something that is no event"
    if not _is_event(last) or "error" not in json.loads(last.removeprefix("data: ")):
        return f"a stream that ends with {last[:300]!r}"
    return fault_in_error(last.removeprefix("data: ").encode())


def _is_event(text: str) -> bool:
    try:
        return isinstance(json.loads(text.removeprefix("data: ")), dict)
    except ValueError:
        return False


def document(model: str) -> dict[str, Any]:
    """The API in OpenAPI's words, made of the types that check its bodies.

    The server does not serve it: bodies are checked by rules that a schema cannot say.
    """
    places, definitions = models_json_schema(
        [(body, _MODE) for body in BODIES.values()], ref_template=_REF
    )
    schemas = definitions["$defs"]
    for name in ("ChatBody", "CompletionBody"):
        schemas[name]["properties"]["model"] = {"enum": [model]}
    schemas["CompletionBody"]["properties"]["prompt"] = _PROMPT
    posts = {path: {"post": _post(path, places[(body, _MODE)])} for path, body in BODIES.items()}
    pages = {path: {"get": _get()} for path in _PAGES}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stride", "version": "1"},
        "paths": {**posts, **pages},
        "components": {"schemas": {**schemas, "Error": _ERROR, "Answer": _ANSWER}},
    }


def _post(path: str, body: Any) -> dict[str, Any]:
    generates = path in (CHAT, COMPLETIONS)
    answer: dict[str, Any] = {_JSON: {"schema": {"$ref": _REF.format(model="Answer")}}}
    if generates:
        answer[_EVENTS] = {"schema": _EVENT}
    elif path == TOKENIZE:
        answer = {_JSON: {"schema": _TOKENS}}
    else:
        answer = {_JSON: {"schema": {"type": "object", "required": ["prompt"]}}}
    refusal = {_JSON: {"schema": {"$ref": _REF.format(model="Error")}}}
    refusals = {
        str(status): {"description": "refused", "content": refusal}
        for status in sorted(STATUSES[path] - {200})
    }
    return {
        "requestBody": {"required": True, "content": {_JSON: {"schema": body}}},
        "responses": {"200": {"description": "answered", "content": answer}, **refusals},
    }


def _get() -> dict[str, Any]:
    return {"responses": {"200": {"description": "said", "content": {_JSON: {"schema": {}}}}}}
