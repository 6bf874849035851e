"""The cost model finds the prices a machine asks and follows them when they change."""

import random
from collections.abc import Sequence
from statistics import median
from time import sleep
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from tiny_engine import MakeEngine

from decoding import cost
from decoding.cost import CostModel, Work, measure
from decoding.request import Request, Sampling, Stopping
from decoding.runner import Runner
from decoding.segment import Segment


class Machine:
    """A clock that forwards move on by what they cost here."""

    context_length, num_blocks = 4096, 1000

    def __init__(self) -> None:
        self.now = 0.0
        self.slowdown = 1.0

    def forward(self, segments: Sequence[Segment]) -> None:
        self.now += self.slowdown * self.price(Work.of(segments))

    @staticmethod
    def price(work: Work) -> float:
        flat_then_rising = 5e-3 + 2e-4 * max(0, work.rows - 8)
        return flat_then_rising + 2e-6 * work.keys + 3e-7 * work.pairs


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(cost, "perf_counter", lambda: machine.now)
    return machine


@pytest.fixture
def model(machine: Machine) -> CostModel:
    return measure(cast(Runner, machine))


def work(rows: int, sequences: int = 1, context: int = 0) -> Work:
    slots = np.arange(context + rows)
    parents = range(-1, rows - 1)
    return Work.of([Segment([0] * rows, parents, context, slots, 0)] * sequences)


def test_the_work_of_a_forward_is_counted_by_sequence() -> None:
    assert work(1, sequences=3, context=9) == Work(rows=3, keys=30, pairs=30)
    assert work(4, context=10) == Work(rows=4, keys=14, pairs=48)


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 11, 24, 100, 128, 300, 512])
@pytest.mark.parametrize("context", [0, 100, 1500])
@pytest.mark.parametrize("sequences", [1, 5])
def test_prices_are_found(model: CostModel, rows: int, context: int, sequences: int) -> None:
    asked = work(rows, sequences, context)
    assert model.seconds(asked) == pytest.approx(Machine.price(asked), rel=0.05)


def test_a_slower_machine_is_followed(model: CostModel, machine: Machine) -> None:
    generator = random.Random(0)
    for _ in range(200):
        done = work(generator.choice([1, 4, 16]), context=generator.randrange(300))
        model.observe(done, 1.5 * Machine.price(done))
    for rows in (1, 4, 16):
        asked = work(rows, context=150)
        assert model.seconds(asked) == pytest.approx(1.5 * Machine.price(asked), rel=0.05)
    assert (model.report().median_error or 1) < 0.1


def test_a_burst_makes_no_size_look_cheaper_than_another(model: CostModel) -> None:
    """A draft of 16 rows beside 16 others is no bargain because those were interrupted."""
    few, many = work(1, sequences=16), work(2, sequences=16)
    before = model.seconds(many) / model.seconds(few)
    for _ in range(10):
        model.observe(few, 1.6 * model.seconds(few))
    assert model.seconds(many) / model.seconds(few) > 0.9 * before


def test_what_is_wrong_with_one_size_alone_is_learned(model: CostModel) -> None:
    few, many = work(1, sequences=16), work(2, sequences=16)
    usual, dear = model.seconds(few), 1.3 * model.seconds(many)
    for _ in range(200):
        model.observe(few, usual)
        model.observe(many, dear)
    assert model.seconds(few) == pytest.approx(usual, rel=0.03)
    assert model.seconds(many) == pytest.approx(dear, rel=0.03)


def test_one_interrupted_step_changes_little(model: CostModel) -> None:
    asked = work(8)
    before = model.seconds(asked)
    model.observe(asked, 10.0)
    assert model.seconds(asked) < 1.1 * before


def test_nothing_is_predicted_below_zero(model: CostModel) -> None:
    for _ in range(500):
        model.observe(work(1, context=3000), 1e-6)
    assert model.seconds(work(1)) >= 0


def test_errors_are_reported_once_there_are_some(model: CostModel) -> None:
    assert model.report().median_error is None
    model.observe(work(1), 2 * model.seconds(work(1)))
    assert model.report().median_error == pytest.approx(0.5)


def test_an_interruption_while_measuring_is_not_believed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = machine.forward

    def interrupted(segments: Sequence[Segment]) -> None:
        machine.slowdown = 3.0 if 0.05 < machine.now < 0.25 else 1.0
        undisturbed(segments)

    monkeypatch.setattr(machine, "forward", interrupted)
    model = measure(cast(Runner, machine))
    for rows in (1, 8, 16, 32, 64):
        assert model.seconds(work(rows)) == pytest.approx(Machine.price(work(rows)), rel=0.05)


def test_a_cache_smaller_than_a_chunk_can_be_measured() -> None:
    small = SimpleNamespace(context_length=48, num_blocks=4, forward=lambda segments: sleep(1e-3))
    assert measure(cast(Runner, small)).seconds(work(1)) >= 0


def test_what_there_was_no_room_to_measure_is_not_free(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a context of 200 tokens there is no forward of 512 rows, but for several prompts."""
    monkeypatch.setattr(machine, "context_length", 200)
    model = measure(cast(Runner, machine))
    assert model.seconds(work(512)) == pytest.approx(4 * model.seconds(work(128)), rel=0.2)


def test_an_engine_learns_from_its_steps_and_reports(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.cost = measure(engine.runner)
    engine.add(
        Request(
            id="a",
            prompt=(1, 2, 3),
            sampling=Sampling(temperature=0),
            stopping=Stopping(max_tokens=20, ignore_eos=True),
        )
    )
    reports = [engine.step() for _ in range(20)]
    assert reports[0].cost is not None
    assert median(engine.cost._errors) == engine.cost.report().median_error
    assert len(engine.cost._errors) == 20
