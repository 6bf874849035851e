"""A strategy that forks, over an upstream: its branches are calls, written side by side."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from decoding.draft import Fork, Strategy, Verdict, Written
from decoding.endings import Ending
from decoding.order import InOrder
from decoding.request import BranchCounts
from server.errors import ApiError, shorten
from server.merging import merged
from server.shell import CHAT_PATH
from server.upstream.client import Upstream
from server.upstream.faults import FINAL, broken_off, reported, unreadable
from server.upstream.opening import Opening
from server.upstream.passthrough import Usage

BYTES_PER_TOKEN = 4
"""Of most text, and roughly: what is counted without the upstream's word for it."""


class FellBack(Exception):
    """The strategy gave up before it had shown anything."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _News(NamedTuple):
    """What a branch adds to its text."""

    text: str
    is_finished: bool


class _Delta(Struct):
    content: str | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: msgspec.Raw | None = None


class Branch:
    """One call: the text it writes up to where the fork ends it, and what it took."""

    def __init__(self, fork: Fork, body: Mapping[str, Any], lead: str) -> None:
        self.body = body
        self.usage: Usage | None = None
        self.num_chunks = 0  # with text
        self._text = ""
        self._is_whole = False
        self._max_tokens = fork.max_tokens
        self._opening = Opening(lead)
        self._ending = Ending(fork.stop, fork.sentences)

    @property
    def written(self) -> Written:
        """What came of it."""
        return Written(self._text, self._is_whole)

    @property
    def is_over(self) -> bool:
        """Whether nothing that it could still write would count."""
        # An upstream that was told the limit writes no more chunks than that.
        return self._ending.stopped or self.num_chunks > self._max_tokens

    @property
    def prompt_tokens(self) -> int:
        """As reported, or estimated where the call ended before that."""
        if self.usage is not None:
            return self.usage.prompt_tokens or 0
        return len(msgspec.json.encode(self.body["messages"])) // BYTES_PER_TOKEN

    @property
    def cached_tokens(self) -> int:
        """Of the prompt, as reported."""
        details = self.usage.prompt_tokens_details if self.usage is not None else None
        return (details.cached_tokens or 0) if details is not None else 0

    @property
    def answer_tokens(self) -> int:
        """As reported, or else a token for each chunk."""
        return self.num_chunks if self.usage is None else self.usage.completion_tokens or 0

    def add(self, piece: str) -> str:
        """Take what was written, and say what of it is certain to be shown."""
        self.num_chunks += 1
        return self._shown(self._opening.add(piece))

    def end(self, finish_reason: str) -> str:
        """Nothing more comes: what is left to show."""
        self._is_whole = self._ending.stopped or finish_reason != "length"
        if not self._ending.stopped:
            self._ending.add(self._opening.end())
        self._ending.flush()
        return self._shown("")

    def _shown(self, text: str) -> str:
        if text:
            self._ending.add(text)
        shown = self._ending.take()
        self._text += shown
        return shown


class Forked:
    """An answer that a strategy has calls write.

    ``new_body`` makes what is sent for a branch of a fork; ``leads`` are stripped where the
    upstream repeats them.
    """

    def __init__(
        self,
        upstream: Upstream,
        strategy: Strategy,
        new_body: Callable[[Fork, Mapping[str, str]], dict[str, Any]],
        first_lead: str,
        deadline: float,
    ) -> None:
        self._upstream = upstream
        self._strategy = strategy
        self._new_body = new_body
        self._first_lead = first_lead
        self._deadline = deadline
        self._slots = asyncio.Semaphore(upstream.target.parallel)
        self._hidden: list[Branch] = []
        self._shown: list[Branch] = []
        self._order: InOrder | None = None

    @property
    def prompt_tokens(self) -> int:
        """Of the calls whose text is in the answer."""
        return sum(branch.prompt_tokens for branch in self._in_answer)

    @property
    def answer_tokens(self) -> int:
        """Of the same."""
        return sum(branch.answer_tokens for branch in self._in_answer)

    @property
    def counts(self) -> BranchCounts:
        """What all calls took."""
        branches = [*self._hidden, *self._shown]
        written = sum(branch.answer_tokens for branch in branches)
        return BranchCounts(
            branches=len(branches),
            prompt_tokens=sum(branch.prompt_tokens for branch in branches),
            cached_tokens=sum(branch.cached_tokens for branch in branches),
            hidden_tokens=written - self.answer_tokens,
        )

    @property
    def _in_answer(self) -> list[Branch]:
        return self._shown[: self._order.num_shown] if self._order is not None else []

    async def texts(self) -> AsyncGenerator[str]:
        """What the answer goes on with, as it comes. Closing ends all calls.

        Raises (while iterating):
            FellBack: there is nothing to show.
            ApiError: a call failed when something had been shown, or none can succeed.
        """
        verdict: Verdict | None = None
        try:
            while (fork := self._next_fork(verdict)) is not None:
                branches = self._branches(fork)
                async with aclosing(self._written(fork, branches)) as texts:
                    async for text in texts:
                        yield text
                verdict = Verdict((), 0, written=tuple(branch.written for branch in branches))
        except ApiError as error:
            if self._shown or error.code in FINAL:
                raise
            raise FellBack(f"a call for it failed: {shorten(error.message)}") from error
        finally:
            self._strategy.close()

    def _next_fork(self, verdict: Verdict | None) -> Fork | None:
        try:
            # A generator is started by sending None, whatever else it takes.
            proposed = self._strategy.send(verdict)  # type: ignore[arg-type]
        except StopIteration as ended:
            if not self._shown:
                reason = ended.value or "the strategy ended without an answer"
                raise FellBack(reason) from None
            return None
        if not isinstance(proposed, Fork):
            raise TypeError("an upstream verifies no drafts")
        return proposed

    def _branches(self, fork: Fork) -> list[Branch]:
        branches = [
            Branch(fork, self._new_body(fork, fields), fields.get("lead", self._first_lead))
            for fields in fork.fields
        ]
        if fork.leads:
            self._shown += branches
            self._order = InOrder(fork.leads)
        else:
            self._hidden += branches
        return branches

    async def _written(self, fork: Fork, branches: list[Branch]) -> AsyncGenerator[str]:
        """Have the branches written, and show those that are to be shown."""
        order = self._order if fork.leads else None
        if order is not None:
            yield order.begin()
        calls = [self._called(branch) for branch in branches]
        async with aclosing(merged(calls)) as arriving:
            async for number, (text, is_finished) in arriving:
                if order is not None:
                    for shown in order.add(number, text, is_finished=is_finished):
                        yield shown

    async def _called(self, branch: Branch) -> AsyncGenerator[_News]:
        """Make the call of a branch; it is left where what it writes counts no more."""
        finish_reason = ""
        async with (
            self._slots,
            self._upstream.call(CHAT_PATH, branch.body, self._deadline) as call,
            aclosing(call.events()) as events,
        ):
            async for data in events:
                chunk = self._read(data)
                branch.usage = chunk.usage or branch.usage
                for choice in chunk.choices:
                    finish_reason = choice.finish_reason or finish_reason
                    if choice.delta is not None and choice.delta.content:
                        yield _News(branch.add(choice.delta.content), False)
                if branch.is_over:
                    break
            else:
                if not finish_reason:
                    raise broken_off()
        yield _News(branch.end(finish_reason or "length"), True)

    def _read(self, data: str) -> _Chunk:
        try:
            chunk = msgspec.json.decode(data, type=_Chunk)
        except msgspec.MsgspecError as error:
            raise unreadable("an event is none of this API") from error
        if chunk.error is not None and bytes(chunk.error) != b"null":
            raise reported(data.encode(), self._upstream.target.key)
        return chunk
