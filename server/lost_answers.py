"""What a lost worker had said of an answer, so that the answer of another can go on from there.

A token is a function of the request, its seed and its position, so the other worker says the same
again. Only where it really does is the answer whole; where it does not, the request is lost.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from msgspec.structs import replace

from decoding.request import Output, TokenLogprob
from server.engine_client import EngineDied

Text = TypeVar("Text", str, tuple[int, ...])


@dataclass
class _Said:
    """What has been handed on of one choice, and how much of it was said again."""

    tokens: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    logprobs: int = 0
    is_finished: bool = False
    repeated_tokens: int = 0
    repeated_characters: int = 0

    @cached_property
    def text(self) -> str:
        """All of it; asked for when nothing is added any more."""
        return "".join(self.texts)

    def new_tokens(self, again: tuple[int, ...]) -> tuple[int, ...]:
        """What of ``again`` was not said before."""
        begun = self.repeated_tokens
        self.repeated_tokens += len(again)
        return _beyond(tuple(self.tokens[begun : begun + len(again)]), again)

    def new_text(self, again: str) -> str:
        """What of ``again`` was not said before."""
        begun = self.repeated_characters
        self.repeated_characters += len(again)
        return _beyond(self.text[begun : begun + len(again)], again)

    def new_logprobs(self, again: tuple[TokenLogprob, ...]) -> tuple[TokenLogprob, ...]:
        """What of ``again`` was not said before."""
        repeated = min(self.logprobs, len(again))
        self.logprobs -= repeated
        return again[repeated:]


class LostAnswer:
    """The answers of all choices of one request, so far."""

    def __init__(self) -> None:
        self._said: defaultdict[int, _Said] = defaultdict(_Said)

    def note(self, output: Output) -> None:
        """Keep what is handed on."""
        said = self._said[output.index]
        said.tokens += output.tokens
        said.texts.append(output.text)
        said.logprobs += len(output.logprobs)
        said.is_finished = output.finish_reason is not None

    def rest(self, output: Output) -> Output | None:
        """What is new in an output of the second attempt; None if nothing is.

        Raises:
            EngineDied: the second attempt gives another answer.
        """
        said = self._said.get(output.index)
        if said is None:
            return output
        tokens, text = said.new_tokens(output.tokens), said.new_text(output.text)
        logprobs = said.new_logprobs(output.logprobs)
        if said.is_finished or not (tokens or text or output.finish_reason):
            return None
        # Of what comes once, all came with the first tokens.
        return replace(
            output,
            tokens=tokens,
            text=text,
            logprobs=logprobs,
            prompt_logprobs=None,
            cached_tokens=None,
            queue_seconds=None,
        )


def _beyond(said: Text, again: Text) -> Text:
    if again[: len(said)] != said:
        raise EngineDied("the worker was lost, and another one gives another answer")
    return again[len(said) :]
