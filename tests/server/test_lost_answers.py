"""A second attempt at an answer adds what the first one had not said."""

import pytest

from decoding.request import Output, TokenLogprob
from server.engine_client import EngineDied
from server.lost_answers import LostAnswer


def output(*tokens: int, text: str = "", index: int = 0, **fields: object) -> Output:
    return Output(request_id="x", index=index, tokens=tokens, text=text, steps=1, **fields)  # type: ignore[arg-type]


def noted(*outputs: Output) -> LostAnswer:
    replay = LostAnswer()
    for each in outputs:
        replay.note(each)
    return replay


def test_what_was_said_is_not_said_again_however_it_is_cut() -> None:
    replay = noted(output(1, 2, text="ab"), output(3, text="c"))
    assert replay.rest(output(1, text="a")) is None
    rest = replay.rest(output(2, 3, 4, text="bcd"))
    assert rest is not None
    assert (rest.tokens, rest.text) == ((4,), "d")
    last = output(5, text="e", finish_reason="stop")
    assert replay.rest(last) == last


def test_text_that_was_held_back_comes_with_its_token() -> None:
    replay = noted(output(1, text="a"), output(2))
    assert replay.rest(output(1, text="a")) is None
    rest = replay.rest(output(2, 3, text="bc"))
    assert rest is not None
    assert (rest.tokens, rest.text) == ((3,), "bc")


def test_a_finished_choice_is_not_finished_again() -> None:
    replay = noted(output(1, text="a", finish_reason="length"), output(7, index=1))
    assert replay.rest(output(1, text="a", finish_reason="length")) is None
    assert replay.rest(output(7, index=1)) is None
    assert replay.rest(output(8, index=1)) == output(8, index=1)


def test_a_choice_of_which_nothing_was_said_is_taken_whole() -> None:
    first = output(1, index=1, cached_tokens=16, queue_seconds=0.1)
    assert noted(output(9)).rest(first) == first


def test_log_probabilities_go_with_their_tokens() -> None:
    scores = tuple(TokenLogprob(token, -float(token)) for token in range(1, 4))
    replay = noted(output(1, 2, logprobs=scores[:2], prompt_logprobs=scores))
    rest = replay.rest(output(1, 2, 3, logprobs=scores, prompt_logprobs=scores))
    assert rest is not None
    assert rest.logprobs == scores[2:]
    assert rest.prompt_logprobs is None


@pytest.mark.parametrize("other", [output(2, text="a"), output(1, text="b")])
def test_another_answer_is_no_answer(other: Output) -> None:
    with pytest.raises(EngineDied):
        noted(output(1, text="a")).rest(other)
