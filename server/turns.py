"""What is said in the stages of a strategy that forks, and in front of it. Knows no tokens."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from server.wordings import Turn, Wording

FIELDS = ("outline", "number", "heading", "lead")
"""What a point's turns have places for."""

Message = TypeVar("Message")


def stage_turns(
    wording: Wording, stage: str, question: str, fields: Mapping[str, str]
) -> list[Turn]:
    """The turns of a stage; what the last one says is to be continued."""
    if stage == "outline":
        return wording.outline_turns(question)
    outline, number, heading, lead = (fields[name] for name in FIELDS)
    point = wording.point_turns(question, outline, number, heading)
    return [*point, ("assistant", lead)]


def conversation(
    wording: Wording,
    earlier: Sequence[Message],
    turns: Sequence[Turn],
    *,
    message: Callable[[Turn], Message],
    role: Callable[[Message], str],
) -> list[Message]:
    """The examples behind what systems say, then what was said before, then the turns."""
    talk = (n for n, each in enumerate(earlier) if role(each) in ("user", "assistant"))
    first = next(talk, len(earlier))
    examples = map(message, wording.example_turns())
    return [*earlier[:first], *examples, *earlier[first:], *map(message, turns)]
