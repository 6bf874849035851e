"""A full batch stays full, and what it did is counted while it is full."""

from collections.abc import Sequence
from typing import cast

from benchmarks.continuous import Load, Prompt, in_turn, under_load
from decoding.engine import Engine
from decoding.report import StepReport
from decoding.request import Output, Request


class Scripted:
    """Says a token a step to everyone; an answer is as long as its prompt."""

    def __init__(self) -> None:
        self.live: dict[str, int] = {}
        self.salts: list[str] = []
        self.sizes: list[int] = []
        self.aborted: list[str] = []

    def add(self, request: Request) -> None:
        self.live[request.id] = len(request.prompt)
        self.salts.append(request.cache_salt)

    def step(self) -> StepReport:
        self.sizes.append(len(self.live))
        outputs = [self._output(name) for name in self.live]
        self.live = {name: left - 1 for name, left in self.live.items() if left > 1}
        drafting = len(self.sizes) % 2
        seconds, guessing = 1.0, 0.25 * drafting
        return StepReport(outputs=outputs, seconds=seconds, draft_seconds=guessing, rows=9)

    def _output(self, name: str) -> Output:
        reason = "stop" if self.live[name] == 1 else None
        drafted = len(self.sizes) % 2
        return Output(request_id=name, tokens=(7,), drafted=drafted, finish_reason=reason)

    def abort(self, name: str) -> None:
        self.aborted.append(name)


def served(lengths: Sequence[int], streams: int) -> tuple[Load, Scripted]:
    engine = Scripted()
    prompts = [Prompt("chat", (1,) * length, 9) for length in lengths]
    return under_load(cast(Engine, engine), prompts, streams, "lookahead", {}), engine


def test_every_step_has_all_streams() -> None:
    load, engine = served([3, 1, 2, 2, 5], streams=2)
    assert set(engine.sizes) == {2}
    assert load.tokens == 2 * len(engine.sizes)
    assert load.tokens_per_second == 2.0
    assert sorted(load.served) == [0, 1, 2, 3]
    assert engine.aborted == ["4"]


def test_answers_are_kept_with_their_prompts() -> None:
    load, _ = served([3, 1, 2], streams=1)
    assert [load.served[number].tokens for number in range(3)] == [(7,) * 3, (7,), (7,) * 2]


def test_guessing_is_compared_with_the_steps_that_drafted() -> None:
    load, engine = served([4, 4, 4], streams=2)
    assert load.drafting_steps == (len(engine.sizes) + 1) // 2
    assert load.guessing_share_of_drafting == 0.25
    assert load.guessing_share == 0.25 * load.drafting_steps / load.steps


def test_answers_of_the_greatest_length_do_not_end_together() -> None:
    assert [in_turn(number, 3, 9) for number in range(5)] == [3, 6, 9, 9, 9]


def test_who_asks_again_is_another_tenant_whatever_the_length() -> None:
    engine = Scripted()
    prompts = [Prompt("chat", (1,), length) for length in (3, 6, 9)]
    under_load(cast(Engine, engine), prompts, 1, "lookahead", {})
    assert len(set(engine.salts)) == 3
