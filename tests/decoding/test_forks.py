"""Requests whose answer branches write: shown in order, ended together, failing alone."""

from collections.abc import Sequence
from typing import Any

import pytest
from tiny_engine import (
    GREEDY,
    SEEDED,
    VOCABULARY,
    Client,
    Decode,
    MakeEngine,
    answers,
    asking,
    prompt_of,
)
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers_in_memory import byte_tokenizer

from decoding.draft import Draft, Fork, Strategy, Verdict, Written
from decoding.engine import Engine
from decoding.forking import Words
from decoding.request import BranchCounts, Decoder, Output, Piece, Request, Sampling
from decoding.sampling import choice_seed
from decoding.sequence import Sequence as Live
from decoding.text import TextStream

CONTROL = 256
NOT_LETTERS = {token: -1e4 for token in range(VOCABULARY) if not chr(token).islower()}
LETTERS = Sampling(temperature=0, logit_bias=NOT_LETTERS)
SEEDED_LETTERS = Sampling(temperature=1.5, seed=11, logit_bias=NOT_LETTERS)
BOTH = pytest.mark.parametrize("sampling", [LETTERS, SEEDED_LETTERS], ids=["greedy", "seeded"])
TOPICS = ("cats", "dogs", "owls")
LEADS = ("1 cats:", ";2 dogs:", ";3 owls:")
FALLBACK = asking(sampling=LETTERS)  # what is answered if the branches cannot


def spelling_tokenizer() -> Tokenizer:
    """Token ``i`` is byte ``i``, in both directions."""
    tokenizer = byte_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return tokenizer


SPELLING = spelling_tokenizer()


def spelled(text: str) -> tuple[int, ...]:
    return tuple(text.encode())


STAGES: dict[str, tuple[Piece, ...]] = {
    "plan": (spelled("What is there?"),),
    "tell": (spelled("All about "), "topic", spelled(": ")),
}


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine(tokenizer=SPELLING)


def branching(sampling: Sampling = LETTERS, **fields: Any) -> Request:
    """A request that brings prompts for branches; whatever these write are letters."""
    fields.setdefault("stages", STAGES)
    fields.setdefault("max_tokens", 200)
    return asking(FALLBACK.prompt, sampling=sampling, **fields)


def planning(max_tokens: int = 4, **fields: Any) -> Fork:
    return Fork(stage="plan", fields=({},), max_tokens=max_tokens, **fields)


def telling(
    topics: Sequence[str] = TOPICS,
    *,
    leads: Sequence[str] = LEADS,
    max_tokens: int = 5,
    **fields: Any,
) -> Fork:
    return Fork(
        stage="tell",
        fields=tuple({"topic": topic} for topic in topics),
        leads=tuple(leads),
        max_tokens=max_tokens,
        **fields,
    )


def forking(*forks: object, reason: str | None = None, told: list[Verdict] | None = None) -> Decode:
    """One fork after the other; ``told`` is what became of them."""

    def decode(seq: Live) -> Strategy:
        for fork in forks:
            verdict = yield fork  # type: ignore[misc]  # also what is no fork at all
            if told is not None:
                told.append(verdict)
        return reason

    return decode


def prompt_about(topic: str) -> tuple[int, ...]:
    return spelled(f"All about {topic}: ")


def alone(engine: Engine, prompt: Sequence[int], sampling: Sampling, max_tokens: int = 5) -> str:
    """What is written after a prompt when nothing else is asked."""
    (answer,) = answers(engine, asking(prompt, sampling=sampling, max_tokens=max_tokens))
    assert len(answer.text) == max_tokens
    return answer.text


def seeded(sampling: Sampling, index: int, number: int) -> Sampling:
    """The sampling of a branch of a choice."""
    seed = choice_seed(choice_seed(sampling.seed, index), number)
    return Sampling(temperature=sampling.temperature, logit_bias=sampling.logit_bias, seed=seed)


def points(
    engine: Engine, sampling: Sampling = LETTERS, index: int = 0, max_tokens: int = 5
) -> list[str]:
    """What each branch that tells about a topic writes."""
    return [
        alone(engine, prompt_about(topic), seeded(sampling, index, number), max_tokens)
        for number, topic in enumerate(TOPICS)
    ]


def joined(points: Sequence[str]) -> str:
    return "".join(lead + point for lead, point in zip(LEADS, points, strict=True))


def news_of(client: Client, request: Request) -> list[Output]:
    reports = client.reports
    return [news for each in reports for news in each.outputs if news.request_id == request.id]


def counts_of(client: Client, request: Request) -> BranchCounts:
    total = BranchCounts()
    for news in news_of(client, request):
        total.add(news.branches or BranchCounts())
    return total


def fallbacks_of(client: Client, request: Request) -> list[str]:
    return [news.fallback for news in news_of(client, request) if news.fallback is not None]


# What is shown


@BOTH
def test_branches_write_what_their_prompts_would_alone(engine: Engine, sampling: Sampling) -> None:
    expected = joined(points(engine, sampling))
    neighbours = [asking(prompt_of(20 + i, i), sampling=s) for i, s in enumerate([GREEDY, SEEDED])]
    undisturbed = [answers(engine, neighbour)[0].tokens for neighbour in neighbours]
    client = Client(engine)
    client.ask(neighbours[0])
    request = client.ask(branching(sampling), forking(telling()))
    client.ask(neighbours[1])
    client.finish()
    answer = client.answer(request)
    assert (answer.text, answer.finish_reason) == (expected, "stop")
    assert answer.tokens == spelled(expected)
    assert [client.answer(neighbour).tokens for neighbour in neighbours] == undisturbed


@BOTH
def test_choices_have_branches_of_their_own(engine: Engine, sampling: Sampling) -> None:
    expected = [joined(points(engine, sampling, index)) for index in range(3)]
    client = Client(engine)
    request = client.ask(branching(sampling, n=3), forking(planning(), telling()))
    client.finish()
    assert [client.answer(request, index).text for index in range(3)] == expected
    assert (len(set(expected)) > 1) == (sampling is SEEDED_LETTERS)


def test_a_fork_without_leads_is_told_and_not_shown(engine: Engine) -> None:
    told: list[Verdict] = []
    client = Client(engine)
    request = client.ask(branching(), forking(planning(), telling(), told=told))
    client.finish()
    plan = alone(engine, spelled("What is there?"), LETTERS, 4)
    assert client.answer(request).text == joined(points(engine))
    assert [verdict.written for verdict in told] == [
        (Written(plan, is_whole=False),),
        tuple(Written(point, is_whole=False) for point in points(engine)),
    ]
    assert counts_of(client, request).hidden_tokens == 4


def test_a_branch_that_stops_is_whole(engine: Engine) -> None:
    plan = alone(engine, spelled("What is there?"), LETTERS, 8)
    told: list[Verdict] = []
    answers(
        engine,
        branching(),
        decode=forking(planning(8, stop=(plan[5:],)), telling(), told=told),
    )
    (written,) = told[0].written
    assert written == Written(plan[: plan.find(plan[5:])], is_whole=True)


def test_an_end_of_sequence_ends_a_branch(make_engine: MakeEngine, engine: Engine) -> None:
    first, *others = points(engine)
    end = first[2]
    expected = joined([point.partition(end)[0] for point in (first, *others)])
    ending = make_engine(tokenizer=SPELLING, eos=spelled(end))
    (answer,) = answers(ending, branching(), decode=forking(telling()))
    assert answer.text == expected


def test_no_branch_ends_before_it_has_so_many_tokens(
    make_engine: MakeEngine, engine: Engine
) -> None:
    first, *_ = points(engine)
    ending = make_engine(tokenizer=SPELLING, eos=spelled(first[0]))
    (answer,) = answers(ending, branching(), decode=forking(telling(["cats"], leads=["-"])))
    assert answer.text == "-"
    longer = telling(["cats"], leads=["-"], min_tokens=3)
    (answer,) = answers(ending, branching(), decode=forking(longer))
    assert len(answer.text) >= 1 + 3
    assert first[0] not in answer.text[:4]


def test_no_branch_writes_characters_it_is_to_be_without(engine: Engine) -> None:
    written = points(engine)
    unwanted = written[0][0] + written[1][0]
    told: list[Verdict] = []
    (answer,) = answers(
        engine, branching(), decode=forking(planning(), telling(without=unwanted), told=told)
    )
    assert told[0].written[0].text == alone(engine, spelled("What is there?"), LETTERS, 4)
    bias = NOT_LETTERS | dict.fromkeys(spelled(unwanted), -1e4)
    without = Sampling(temperature=0, logit_bias=bias)
    assert answer.text == joined(points(engine, without))


def test_a_token_holds_a_character_wherever_it_stands() -> None:
    assert Words(SPELLING).holding("a:") == {*spelled("a:")}
    assert Words(SPELLING).holding("") == set()


def test_branches_end_behind_so_many_sentences(engine: Engine) -> None:
    """The model is made to write full stops, spaces and capitals, and nothing else."""
    wanted = {*spelled(". AB")}
    bias = {token: -1e4 for token in range(VOCABULARY) if token not in wanted}
    sampling = Sampling(temperature=1.5, seed=5, logit_bias=bias)
    told: list[Verdict] = []
    endless = telling(max_tokens=60)
    answers(engine, branching(sampling, max_tokens=240), decode=forking(endless, told=told))
    limited = telling(max_tokens=60, sentences=1)
    answers(engine, branching(sampling), decode=forking(limited, told=told))
    whole, cut = (verdict.written for verdict in told)
    for everything, first in zip(whole, cut, strict=True):
        assert first.is_whole
        assert first.text.endswith(".")
        assert everything.text.startswith(first.text + " ")


def test_the_first_branch_is_streamed_while_later_ones_are_written(engine: Engine) -> None:
    first, second, third = points(engine)
    client = Client(engine)
    request = client.ask(branching(), forking(telling()))
    client.finish()
    # The others begin one step later: then the prompt that they share is computed.
    assert [news.text for news in news_of(client, request)] == [
        f"{LEADS[0]}{first[0]}",
        *first[1:4],
        f"{first[4]}{LEADS[1]}{second[:4]}",
        f"{second[4]}{LEADS[2]}{third}",
    ]


def test_a_later_branch_that_ends_first_is_shown_in_its_place(engine: Engine) -> None:
    written = points(engine)
    stop = written[2][1]
    expected = joined([point.partition(stop)[0] for point in written])
    (answer,) = answers(engine, branching(), decode=forking(telling(stop=(stop,))))
    assert answer.text == expected


def test_an_answer_may_be_written_in_several_forks(engine: Engine) -> None:
    forks = [telling([topic], leads=[lead]) for topic, lead in zip(TOPICS, LEADS, strict=True)]
    expected = "".join(
        lead + alone(engine, prompt_about(topic), LETTERS)
        for topic, lead in zip(TOPICS, LEADS, strict=True)
    )
    (answer,) = answers(engine, branching(), decode=forking(*forks))
    assert (answer.text, answer.finish_reason) == (expected, "stop")
    assert answer.queue_seconds is not None


def test_what_is_filled_in_never_becomes_a_control_token() -> None:
    pieces: tuple[Piece, ...] = ((CONTROL, 65), "topic", (66,))
    filled = Words(SPELLING).filled(pieces, {"topic": "<|end|>"})
    assert filled == (CONTROL, 65, *spelled("<|end|>"), 66)
    assert SPELLING.encode("<|end|>").ids == [CONTROL]  # in itself, it would


def test_strategies_for_one_prompt_decode_the_branches(engine: Engine) -> None:
    """Each is drafted for by the fallback, and what came of it is added up."""
    fallback = Decoder("lookahead")
    client = Client(engine)
    request = client.ask(branching(fallback=fallback), forking(telling(max_tokens=40)))
    client.finish()
    answer = client.answer(request)
    assert answer.text == joined(points(engine, max_tokens=40))
    assert 0 < answer.accepted <= answer.drafted
    assert sum(answer.accepted_runs) == answer.accepted
    sources = [news.sources for news in news_of(client, request)]
    for count in ("drafted", "accepted"):
        of_sources = [getattr(each, count) for source in sources for each in source.values()]
        assert sum(of_sources) == getattr(answer, count)
    assert answer.accepted < len(answer.tokens)  # no count is doubled


# Where an answer ends


@pytest.mark.parametrize(
    "length",
    [1, len(LEADS[0]) - 1, len(LEADS[0]), len(LEADS[0]) + 2, len(LEADS[0]) + 5, 16, 29, 35, 36],
)
def test_max_tokens_are_those_of_the_whole_answer(engine: Engine, length: int) -> None:
    whole = joined(points(engine))
    client = Client(engine)
    request = client.ask(branching(max_tokens=length), forking(planning(), telling()))
    client.finish()
    answer = client.answer(request)
    assert (answer.text, answer.tokens) == (whole[:length], spelled(whole[:length]))
    assert answer.finish_reason == "length"


def test_an_answer_shorter_than_max_tokens_stops(engine: Engine) -> None:
    whole = joined(points(engine))
    (answer,) = answers(engine, branching(max_tokens=len(whole) + 1), decode=forking(telling()))
    assert (answer.text, answer.finish_reason) == (whole, "stop")


def test_a_character_may_be_cut_by_max_tokens(engine: Engine) -> None:
    decode = forking(telling(leads=("é:", ";", ";")))
    (answer,) = answers(engine, branching(max_tokens=1), decode=decode)
    assert (answer.text, answer.tokens) == ("\ufffd", spelled("é")[:1])


@pytest.mark.parametrize("where", ["lead", "branch", "lead-branch", "branch-lead", "hidden-lead"])
def test_a_stop_string_ends_the_answer_wherever_it_stands(engine: Engine, where: str) -> None:
    first, second, _ = points(engine)
    stop = {
        "lead": LEADS[1][1:4],
        "branch": second[1:4],
        "lead-branch": LEADS[0][-2:] + first[:2],
        "branch-lead": first[-2:] + LEADS[1][:2],
        "hidden-lead": first[-1] + LEADS[1] + second[0],
    }[where]
    whole = joined(points(engine))
    request = branching(stopping={"stop": (stop,)})
    (answer,) = answers(engine, request, decode=forking(telling()))
    assert (answer.text, answer.finish_reason) == (whole[: whole.find(stop)], "stop")


def test_a_start_of_a_stop_string_is_shown_at_the_end(engine: Engine) -> None:
    whole = joined(points(engine))
    request = branching(stopping={"stop": (whole[-3:] + "?",)})
    (answer,) = answers(engine, request, decode=forking(telling()))
    assert (answer.text, answer.finish_reason) == (whole, "stop")


def test_a_stop_string_does_not_end_what_is_hidden(engine: Engine) -> None:
    plan = alone(engine, spelled("What is there?"), LETTERS, 4)
    whole = joined(points(engine))
    told: list[Verdict] = []
    request = branching(stopping={"stop": (plan,)})
    (answer,) = answers(engine, request, decode=forking(planning(), telling(), told=told))
    assert told[0].written[0].text == plan
    assert answer.text == whole.partition(plan)[0]


@pytest.mark.parametrize("steps", [0, 1, 3, 6])
def test_an_aborted_request_leaves_nothing_behind(engine: Engine, steps: int) -> None:
    closed: list[bool] = []

    def decode(seq: Live) -> Strategy:
        try:
            yield planning()
            yield telling(max_tokens=30)
        finally:
            closed.append(True)
        return None

    client = Client(engine)
    request = client.ask(branching(n=2), decode)
    for _ in range(steps):
        client.step()
    engine.abort(request.id)
    assert not engine.has_work
    assert engine.pool.num_free == engine.pool.num_blocks - 1
    assert closed == [True, True]
    assert client.step().outputs == []


def test_a_request_that_fell_back_can_be_aborted(engine: Engine) -> None:
    client = Client(engine)
    request = client.ask(branching(), forking(planning(), reason="no plan"))
    while not fallbacks_of(client, request):
        client.step()
    client.step()
    engine.abort(request.id)
    assert not engine.has_work
    assert engine.pool.num_free == engine.pool.num_blocks - 1


def test_no_branch_is_computed_after_the_end(engine: Engine) -> None:
    first, *_ = points(engine)
    stop = first[2:5]
    request = branching(stopping={"stop": (stop,)})
    client = Client(engine)
    client.ask(request, forking(telling(max_tokens=30)))
    client.finish()
    rows = [report.rows for report in client.reports if report.rows]
    assert len(rows) == (LEADS[0] + first).find(stop) + len(stop) - len(LEADS[0])


# When something goes wrong


def failing_at_close(seq: Live) -> Strategy:
    try:
        yield telling(max_tokens=30)  # longer than the answer may be
    finally:
        raise RuntimeError("boom")


def raising(*forks: Fork) -> Decode:
    def decode(seq: Live) -> Strategy:
        yield from forking(*forks)(seq)
        raise RuntimeError("boom")

    return decode


@pytest.mark.parametrize(
    ("decode", "error"),
    [
        (raising(), "RuntimeError: boom"),
        (raising(planning()), "RuntimeError: boom"),
        (raising(telling()), "RuntimeError: boom"),
        (failing_at_close, "RuntimeError: boom"),
        (forking(Fork(stage="sing", fields=({},), max_tokens=5)), "KeyError: 'sing'"),
        (forking(Fork(stage="tell", fields=({},), max_tokens=5)), "KeyError: 'topic'"),
        (forking(planning(), telling(leads=LEADS[:2])), "IndexError"),
        (forking(telling(())), "ValueError"),
        (forking(Draft()), "TypeError"),
        (forking(None), "TypeError"),
        (forking(planning(), 7), "TypeError"),
        (forking(telling(stop=("boom",))), "RuntimeError: boom"),
    ],
    ids=[
        "at once",
        "after a plan",
        "at the end",
        "when closed",
        "unknown stage",
        "missing field",
        "missing lead",
        "no branches",
        "a draft",
        "nothing",
        "no fork",
        "a branch",
    ],
)
def test_what_fails_ends_its_request_alone(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, decode: Decode, error: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    class Failing(TextStream):
        def __init__(
            self,
            tokenizer: Tokenizer,
            prompt: Sequence[int],
            stop: Sequence[str] = (),
            sentences: int = 0,
        ) -> None:
            super().__init__(tokenizer, prompt, stop, sentences)
            if "boom" in stop:
                setattr(self, "push", fail)  # noqa: B010

    monkeypatch.setattr("decoding.engine.TextStream", Failing)
    engine = make_engine(tokenizer=SPELLING)
    first, last = neighbours = [asking(prompt_of(30, i), sampling=SEEDED) for i in (1, 2)]
    expected = [answers(engine, neighbour)[0].tokens for neighbour in neighbours]
    client = Client(engine)
    client.ask(first)
    victim = client.ask(branching(max_tokens=60), decode)
    healthy = client.ask(branching(), forking(telling()))
    client.ask(last)
    client.finish()
    answer = client.answer(victim)
    assert answer.finish_reason == "error"
    assert (answer.error or "").startswith(error)
    assert [client.answer(neighbour).tokens for neighbour in neighbours] == expected
    assert client.answer(healthy).text == joined(points(engine))


def test_a_forward_that_raises_ends_the_request_of_its_branches(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(engine)
    request = client.ask(branching(), forking(telling()))
    client.step()
    client.step()
    with monkeypatch.context() as broken:
        broken.setattr(engine.runner, "forward", lambda segments: 1 / 0)
        client.step()
    later = client.ask(branching(), forking(telling()))
    client.finish()
    assert client.answer(request).error == "ZeroDivisionError: division by zero"
    assert client.answer(later).text == joined(points(engine))


def test_an_engine_without_text_cannot_fork(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with pytest.raises(ValueError, match="no tokenizer"):
        engine.add(branching(n=2), forking(telling()))
    assert not engine.has_work


def test_a_fork_of_a_request_without_stages_ends_it_alone(engine: Engine) -> None:
    (answer,) = answers(engine, branching(stages={}), decode=forking(telling()))
    assert answer.error == "TypeError: this request brings no prompts for branches"


# Falling back

TOO_LONG = "cat" * 100


@pytest.mark.parametrize(
    ("decode", "reason"),
    [
        (forking(reason="no outline"), "no outline"),
        (forking(planning(), reason="no outline"), "no outline"),
        (forking(telling([TOO_LONG, "dogs"]), reason="too long"), "too long"),
        (forking(planning(), telling([TOO_LONG]), reason="too long"), "too long"),
        (forking(planning()), "the strategy ended without an answer"),
    ],
)
@pytest.mark.parametrize("fallback", ["autoregressive", "lookahead"])
@BOTH
def test_the_fallback_answers_as_if_it_had_been_asked(
    engine: Engine, decode: Decode, reason: str, fallback: str, sampling: Sampling
) -> None:
    plain = asking(FALLBACK.prompt, sampling=sampling, max_tokens=30, n=2)
    expected = Client(engine)
    expected.ask(plain)
    expected.finish()
    client = Client(engine)
    request = client.ask(
        branching(sampling, n=2, max_tokens=30, fallback=Decoder(fallback)), decode
    )
    client.finish()
    for index in range(2):
        answer = client.answer(request, index)
        assert answer.tokens == expected.answer(plain, index).tokens
        assert answer.finish_reason == "length"
        assert answer.queue_seconds is not None
        assert answer.cached_tokens is not None
    assert fallbacks_of(client, request) == [reason] * 2


def test_a_prompt_that_leaves_no_room_is_told_as_nothing_written(engine: Engine) -> None:
    told: list[Verdict] = []
    answers(engine, branching(), decode=forking(telling([TOO_LONG]), planning(), told=told))
    assert told[0].written == ()
    assert len(told[1].written) == 1


def test_a_branch_may_fill_the_context(engine: Engine) -> None:
    topic = "c" * (engine.context_length - len(prompt_about("")) - 3)
    told: list[Verdict] = []
    answers(engine, branching(), decode=forking(telling([topic], leads=[":"]), told=told))
    (written,) = told[0].written
    assert (len(written.text), written.is_whole) == (3, False)


def test_after_leads_the_end_of_the_strategy_is_the_end(engine: Engine) -> None:
    """Whatever it returns: an answer that has begun is not begun again."""
    client = Client(engine)
    request = client.ask(branching(), forking(telling(), reason="never mind"))
    client.finish()
    assert client.answer(request).text == joined(points(engine))
    assert fallbacks_of(client, request) == []


def test_a_fork_that_shows_nothing_leaves_the_answer_to_the_fallback(engine: Engine) -> None:
    stop = alone(engine, prompt_about("cats"), LETTERS)[0]
    client = Client(engine)
    decode = forking(telling(["cats"], leads=[""], stop=(stop,)))
    request = client.ask(branching(max_tokens=24), decode)
    client.finish()
    assert client.answer(request).tokens == answers(engine, FALLBACK)[0].tokens


# What it costs


def forwards_counted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of sequences in every forward from now on."""
    forward = engine.runner.forward
    sizes: list[int] = []

    def counted(segments: Sequence[Any]) -> Any:
        sizes.append(len(segments))
        return forward(segments)

    monkeypatch.setattr(engine.runner, "forward", counted)
    return sizes


@pytest.mark.parametrize("max_tokens", [200, 18, 3])
@pytest.mark.parametrize("reason", [None, "no outline"])
def test_a_forward_counts_once_however_many_branches_are_in_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, max_tokens: int, reason: str | None
) -> None:
    forks = [planning(30)] if reason else [planning(30), telling()]
    sizes = forwards_counted(engine, monkeypatch)
    client = Client(engine)
    request = client.ask(branching(max_tokens=max_tokens), forking(*forks, reason=reason))
    client.finish()
    assert client.answer(request).steps == len(sizes)


def test_forwards_that_choose_nothing_are_not_counted(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that is read in three parts takes three forwards, and one of them says something."""
    engine = make_engine(tokenizer=SPELLING, step_tokens=8)
    sizes = forwards_counted(engine, monkeypatch)
    topic = "house cats"
    assert 16 < len(prompt_about(topic)) <= 24
    client = Client(engine)
    request = client.ask(branching(), forking(telling([topic], leads=[":"])))
    client.finish()
    assert client.answer(request).steps == len(sizes) - 2 == 5


def test_branches_share_the_blocks_of_what_they_have_in_common(engine: Engine) -> None:
    common = prompt_of(70, 3)
    stages: dict[str, tuple[Piece, ...]] = {"tell": (common, "topic", spelled(": "))}
    client = Client(engine)
    request = client.ask(branching(stages=stages), forking(telling()))
    client.finish()
    length = len(common) + len("cats: ")
    assert counts_of(client, request) == BranchCounts(
        branches=3, prompt_tokens=3 * length, cached_tokens=2 * 64
    )
    most = max(report.cache_usage for report in client.reports) * (engine.pool.num_blocks - 1)
    assert round(most) == 4 + 3 * 1


def test_branches_do_not_keep_another_request_from_starting(make_engine: MakeEngine) -> None:
    engine = make_engine(tokenizer=SPELLING, num_blocks=128, running=4)
    topics = [f"topic {number}" for number in range(10)]
    fork = telling(topics, leads=["."] * 10, max_tokens=8)
    client = Client(engine)
    large = client.ask(branching(), forking(fork))
    for _ in range(3):
        client.step()
    assert client.reports[-1].running == 4
    small = client.ask(asking(max_tokens=4))
    client.finish()
    begun = next(
        n
        for n, report in enumerate(client.reports)
        if report.outputs and any(news.request_id == small.id for news in report.outputs)
    )
    # The first branch ends in the eighth step, and its place is given away.
    assert begun == 8
    assert client.answer(large).finish_reason == "stop"


@pytest.mark.parametrize("num_blocks", [6, 7])
def test_branches_that_are_preempted_write_the_same(
    make_engine: MakeEngine, num_blocks: int
) -> None:
    fork = telling(max_tokens=30)
    roomy = make_engine(tokenizer=SPELLING)
    expected = answers(roomy, branching(SEEDED_LETTERS), decode=forking(fork))[0].text
    plain = answers(roomy, FALLBACK)[0].tokens
    engine = make_engine(tokenizer=SPELLING, num_blocks=num_blocks)
    client = Client(engine)
    max_tokens = engine.context_length - len(FALLBACK.prompt)
    request = client.ask(branching(SEEDED_LETTERS, max_tokens=max_tokens), forking(fork))
    other = client.ask(FALLBACK)
    client.finish()
    assert sum(report.preemptions for report in client.reports) > 0
    assert client.answer(request).text == expected[:max_tokens]
    assert client.answer(other).tokens == plain
