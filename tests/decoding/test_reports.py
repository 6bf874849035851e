"""What the engine tells of drafts: where they are from, what the budget decided, what they took."""

import pytest
from tiny_engine import (
    Answer,
    Decode,
    FixedCost,
    MakeEngine,
    answers,
    asking,
    guessing,
    other,
    perfect,
)

from decoding.cost import ROWS
from decoding.draft import Draft
from decoding.engine import Engine
from decoding.request import Output, Request, SourceCounts

FREE = FixedCost([1.0 for _ in ROWS], 0.0, 0.0)


@pytest.fixture
def plain(make_engine: MakeEngine) -> Answer:
    (answer,) = answers(make_engine(), asking())
    return answer


def news_of(engine: Engine, request: Request, decode: Decode | None = None) -> list[Output]:
    engine.add(request, decode)
    news: list[Output] = []
    while engine.has_work:
        news += engine.step().outputs
    return news


def test_nodes_are_counted_by_their_sources(make_engine: MakeEngine, plain: Answer) -> None:
    right, wrong = plain.tokens[1], other(plain.tokens[2])
    draft = Draft((right, wrong), (-1, 0), (1.0, 1.0), ("prompt", "recycled"))
    once = guessing(lambda done: draft if done == 1 else Draft())
    first, second, *_ = news_of(make_engine(), asking(), once)
    assert first.sources == {}
    assert second.sources == {"prompt": SourceCounts(1, 1, 1), "recycled": SourceCounts(1, 1, 0)}


@pytest.mark.parametrize(
    ("strategy", "options"),
    [("jacobi", {}), ("jacobi", {"shrinking": True}), ("lookahead", {"window": 3})],
)
def test_nodes_without_a_source_are_the_strategys(
    make_engine: MakeEngine, strategy: str, options: dict[str, int]
) -> None:
    news = news_of(make_engine(), asking(strategy=strategy, options=options))
    assert any(strategy in output.sources for output in news)


def test_who_asks_is_told_what_the_budget_decided(make_engine: MakeEngine, plain: Answer) -> None:
    engine, decode = make_engine(cost=FREE), perfect(plain.tokens, ahead=4)
    assert all(output.explanation is None for output in news_of(engine, asking(), decode))
    first, *_ = news_of(engine, asking(explains_drafts=True), decode)
    said = first.explanation
    assert said is not None
    assert (said.proposed, said.granted, said.accepted) == (4, 4, 4)
    assert said.decision is not None
    assert (said.decision.sequences, said.decision.expected_tokens) == (1, 5.0)


def test_a_step_reports_its_decisions_and_what_guessing_took(
    make_engine: MakeEngine, plain: Answer
) -> None:
    engine = make_engine(cost=FREE)
    engine.add(asking(), perfect(plain.tokens, ahead=4))
    report = engine.step()
    assert [(decision.proposed, decision.granted) for decision in report.decisions] == [(4, 4)]
    assert 0 < report.draft_seconds < report.seconds
    assert not report.is_resting
    assert report.drafting is not None
