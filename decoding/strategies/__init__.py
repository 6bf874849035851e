"""One file a strategy: a module here with a function ``decode(seq, *, …options) -> Strategy``.

Its name is the module's, its options, their types and limits are the keyword-only parameters, and
``LOSSLESS`` says whether its answers are those of plain decoding. With a function
``figures(sources, *, …options)`` it adds figures of its own to the report of an answer. With
``STAGES`` it forks: these are the prompts it needs beside the request's own.
"""

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec

from decoding.draft import Strategy
from decoding.request import OptionValue, SourceCounts

if TYPE_CHECKING:
    from decoding.sequence import Sequence


class OptionError(ValueError):
    """A strategy or an option that does not exist, or a value it cannot have.

    ``field`` names what is wrong: ``strategy`` or the option.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@cache
def names() -> tuple[str, ...]:
    """The strategies there are, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def is_lossless(name: str) -> bool:
    """Whether the strategy's answers are, token for token, those of plain decoding."""
    return bool(_module(name).LOSSLESS)


def is_forking(name: str) -> bool:
    """Whether the strategy has branches write the answer."""
    return hasattr(_module(name), "STAGES")


def options(name: str) -> dict[str, inspect.Parameter]:
    """The options of a strategy with their types and defaults."""
    parameters = inspect.signature(_module(name).decode).parameters.values()
    return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def check(name: str, given: Mapping[str, OptionValue]) -> None:
    """Check a choice before work is done for it.

    Raises:
        OptionError: there is no such strategy or option, or a value has the wrong
            type or is out of its limits.
    """
    known = _options_of(name)
    for option, value in given.items():
        _converted(name, known, option, value, strict=True)


def figures(
    name: str, given: Mapping[str, OptionValue], sources: Mapping[str, SourceCounts]
) -> dict[str, float]:
    """What a strategy has to say of an answer, from what became of its drafts; often nothing."""
    of: Callable[..., dict[str, float]] | None = getattr(_module(name), "figures", None)
    return of(sources, **given) if of else {}


def parse(written: str) -> tuple[str, str, OptionValue]:
    """Read an option as settings have it, ``strategy.option=value``, into its three parts.

    Raises:
        OptionError: see ``check``.
    """
    path, _, value = (part.strip() for part in written.partition("="))
    name, _, option = path.partition(".")
    return name, option, _converted(name, _options_of(name), option, value, strict=False)


def decoder(name: str, given: Mapping[str, OptionValue]) -> Callable[["Sequence"], Strategy]:
    """The strategy with its options, ready to be handed a sequence.

    Raises:
        OptionError: see ``check``.
    """
    check(name, given)
    decode: Callable[..., Strategy] = _module(name).decode
    return lambda seq: decode(seq, **given)


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")


def _options_of(name: str) -> dict[str, inspect.Parameter]:
    if name not in names():
        raise OptionError("strategy", f"unknown strategy {name!r}; there are {', '.join(names())}")
    return options(name)


def _converted(
    name: str,
    known: Mapping[str, inspect.Parameter],
    option: str,
    value: OptionValue,
    *,
    strict: bool,
) -> OptionValue:
    """A value of an option as its type; unless ``strict``, from its text."""
    if option not in known:
        listed = ", ".join(known) or "none"
        raise OptionError(option, f"{name} has no option {option!r}; its options: {listed}")
    try:
        converted: OptionValue = msgspec.convert(value, known[option].annotation, strict=strict)
    except msgspec.ValidationError as error:
        raise OptionError(option, f"option {option!r} is {value!r}: {error}") from error
    return converted
