"""Rounds of turns: whoever has the turn computes, everyone else is frozen."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich.progress import Progress

from benchmarks.comparisons import Series
from benchmarks.contestants import Contestant
from benchmarks.machine import OtherLoad
from benchmarks.processes import ContestantFailed
from benchmarks.timing import Timing
from benchmarks.workloads import DECODE, Workload, Workloads

_WAKING_TOKENS = 4


class Turn(NamedTuple):
    """One contestant's turn with one group of prompts."""

    contestant: Contestant
    workload: Workload
    prompts: tuple[str, ...]


def turns(workloads: Sequence[Workload], contestants: Sequence[Contestant]) -> Iterator[Turn]:
    """A B C with the first group, A B C with the second: compared samples lie side by side."""
    for workload in workloads:
        for prompts in workload.groups:
            for contestant in contestants:
                if len(prompts) == 1 or contestant.takes_groups:
                    yield Turn(contestant, workload, prompts)


class Benchmark:
    """Runs turns and keeps what they yield; a contestant that fails is out, with all it did."""

    def __init__(self, contestants: Sequence[Contestant], progress: Progress) -> None:
        self._contestants = list(contestants)
        self._progress = progress
        self.other_load = 0.0  # while it was measuring
        self.absent: dict[str, str] = {}
        self.samples: dict[Series, list[float]] = defaultdict(list)
        self.answers: dict[str, list[Timing]] = defaultdict(list)  # to the prompts of DECODE

    def run(self, workloads: Workloads, rounds: int) -> None:
        """Start everyone, warm everyone up, measure, stop everyone."""
        try:
            self._start()
            self._round("Warming up", workloads.warm_up())
            self.samples.clear()
            self.answers.clear()
            load = OtherLoad()
            for number in range(rounds):
                self._round(f"Round {number + 1} of {rounds}", workloads.of_round(number))
            self.other_load = load.share()
        finally:
            for contestant in self._contestants:
                contestant.stop()

    def _start(self) -> None:
        for contestant in self._progress.track(self._contestants, description="Starting"):
            with self._out_if_it_fails(contestant):
                contestant.start()

    def _round(self, title: str, workloads: Sequence[Workload]) -> None:
        if not self._progress.console.is_terminal:  # where bars are not drawn, say it in lines
            self._progress.console.print(title)
        planned = list(turns(workloads, self._contestants))
        for turn in self._progress.track(planned, description=title):
            if turn.contestant.name not in self.absent:
                with self._out_if_it_fails(turn.contestant):
                    self._take(turn)

    def _take(self, turn: Turn) -> None:
        contestant, workload, prompts = turn
        contestant.thaw()
        # Its memory and connections were asleep: a few tokens wake them before the clock runs.
        contestant.answer(["Good morning!"], _WAKING_TOKENS)
        answers = contestant.answer(prompts, workload.new_tokens)
        contestant.freeze()
        _check_lengths(answers, workload.new_tokens)
        self.samples[Series(workload.name, contestant.name)].append(workload.speed(answers))
        if workload.name == DECODE:
            self.answers[contestant.name] += answers

    @contextmanager
    def _out_if_it_fails(self, contestant: Contestant) -> Iterator[None]:
        try:
            yield
        except ContestantFailed as problem:
            self.absent[contestant.name] = str(problem)
            self._progress.console.print(f"{contestant.name} is out: {problem}", style="red")
            contestant.stop()
            for series in [s for s in self.samples if s.contestant == contestant.name]:
                del self.samples[series]
            self.answers.pop(contestant.name, None)


def _check_lengths(answers: Sequence[Timing], new_tokens: int) -> None:
    lengths = {answer.num_tokens for answer in answers}
    if lengths != {new_tokens}:
        raise ContestantFailed(f"answered with {sorted(lengths)} tokens instead of {new_tokens}")
