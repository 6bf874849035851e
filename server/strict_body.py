"""What all request bodies have in common: strict types, null means default, nothing is ignored."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from server.errors import ApiError, invalid, shorten


class Unsupported(NamedTuple):
    """A field that is known but not honoured: refused unless its value changes nothing."""

    reason: str
    harmless: tuple[object, ...] = ()


def refusal(message: str, param: str = "") -> PydanticCustomError:
    """A validation error in our own words; ``param`` is relative to the validated field."""
    return PydanticCustomError("refused", "{text}", {"text": message, "param": param})


class StrictBody(BaseModel):
    """A JSON object of known fields. An explicit null is the same as an absent field."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    unsupported: ClassVar[Mapping[str, Unsupported]] = {}

    @model_validator(mode="before")
    @classmethod
    def _keep_what_is_asked(cls, body: object) -> object:
        if not isinstance(body, dict):
            return body
        return {name: value for name, value in body.items() if cls._is_asked(name, value)}

    @classmethod
    def _is_asked(cls, name: str, value: object) -> bool:
        if name in cls.model_fields:
            return value is not None
        if name not in cls.unsupported:
            raise refusal(f"Unknown field '{shorten(name)}'", shorten(name))
        reason, harmless = cls.unsupported[name]
        # 1 == True: only a value of the same type is the harmless one.
        if value is None or any(type(value) is type(h) and value == h for h in harmless):
            return False
        raise refusal(f"'{name}' is not supported: {reason}", name)


Body = TypeVar("Body", bound=StrictBody)


def parse(body_type: type[Body], body: dict[str, object]) -> Body:
    """Validate a decoded body.

    Raises:
        ApiError: 400 that names the first wrong field.
    """
    try:
        return body_type.model_validate(body)
    except ValidationError as error:
        raise _as_api_error(error.errors(include_url=False)[0]) from error


def _as_api_error(error: ErrorDetails) -> ApiError:
    context = error.get("ctx", {})
    param = _path([*error["loc"], *([context["param"]] if context.get("param") else [])])
    if error["type"] == "refused":
        return invalid(error["msg"], param)
    if error["type"] == "missing":
        return invalid(f"'{param}' is required", param)
    return invalid(f"'{param}': {error['msg']}{_echo(error['input'])}", param)


def _path(location: list[int | str]) -> str | None:
    """``messages[0].content``, as OpenAI writes it."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return shorten(path.removeprefix(".").replace(".[", "[")) or None


def _echo(value: object) -> str:
    if isinstance(value, str):
        return f", not '{shorten(value, 100)}'"
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1e30):
        return f", not {str(value).lower() if isinstance(value, bool) else value}"
    return ""
