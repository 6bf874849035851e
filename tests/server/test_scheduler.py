"""The choice of a strategy."""

import pytest

from decoding.request import OptionValue
from server.engine_client import Load
from server.errors import ApiError
from server.scheduler import (
    Choice,
    Known,
    Policy,
    check,
    choose,
    explains_drafts,
    repeats_the_prompt,
    wants_history,
)

TEXT = "The old harbour lay still under a thin grey sky, and nobody spoke a word. " * 5


def automatic(**known: object) -> Choice:
    return choose({}, Known(**known), Load())  # type: ignore[arg-type]


@pytest.mark.parametrize("decoding", [{}, {"strategy": "auto"}])
def test_auto_looks_ahead_where_nothing_is_known(decoding: dict[str, str]) -> None:
    choice = choose(decoding, Known("What is gravity?"), Load())
    reason = "nothing is known that the answer would repeat"
    assert choice == Choice("lookahead", {}, reason)
    assert choice.lossless


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"has_prediction": True}, "the request predicts the answer"),
        ({"has_documents": True}, "the request brings documents"),
        ({"history": "hit"}, "the same prompt was answered before"),
        ({"history": "similar"}, "a similar prompt was answered before"),
        ({"question": f"Fix the typos.\n{TEXT}"}, "the prompt asks to edit text that it holds"),
    ],
)
def test_auto_copies_where_something_is_known(known: dict[str, object], reason: str) -> None:
    assert automatic(**known) == Choice("reference", {}, reason)


def test_auto_corrects_blocks_of_models_trained_for_it() -> None:
    policy = Policy(consistency_trained=True)
    choice = choose({}, Known("What is gravity?"), Load(), policy)
    assert choice == Choice("jacobi", {}, "the model is trained for it")
    assert choose({}, Known(has_prediction=True), Load(), policy).strategy == "reference"


def test_options_of_the_settings_hold_for_what_auto_picks_too() -> None:
    policy = Policy({"lookahead": {"window": 0, "nodes": 9}})
    assert choose({}, Known(), Load(), policy).options == {"window": 0, "nodes": 9}
    named: dict[str, OptionValue] = {"strategy": "lookahead", "window": 4}
    assert choose(named, Known(), Load(), policy).options == {"window": 4, "nodes": 9}


def test_asking_for_the_budget_is_no_option() -> None:
    check({"budget": True})
    assert choose({"budget": True}, Known(), Load()).options == {}
    assert explains_drafts({"budget": True})
    assert not explains_drafts({})
    with pytest.raises(ApiError, match="'budget' must be true or false"):
        check({"budget": "yes"})


@pytest.mark.parametrize("history", ["miss", "off"])
def test_a_history_without_a_match_decides_nothing(history: str) -> None:
    assert automatic(history=history).strategy == "lookahead"


@pytest.mark.parametrize(
    ("instruction", "call"),
    [
        ("Rewrite this in the past tense:", "rewrite"),
        ("Please rename the function and output the whole file.", "edit"),
        ("Which sentences mention the harbour? Quote them.", "quote"),
        ("Repeat the text word for word.", "repeat"),
        ("Copy the second sentence.", "repeat"),
        ("请改写下面的文字。", "rewrite"),
        ("请把下面的文字修改一下。", "edit"),
        ("次の文章を書き直してください。", "rewrite"),
        ("Bitte korrigiere den Text.", "edit"),
    ],
)
def test_a_call_to_repeat_text_that_is_there_is_seen(instruction: str, call: str) -> None:
    assert repeats_the_prompt(Known(f"{instruction}\n\n{TEXT}")) == call
    assert repeats_the_prompt(Known(f"{TEXT}\n\n{instruction}")) == call


@pytest.mark.parametrize(
    "question",
    [
        "Why do leaves change colour?",  # nothing to repeat
        f"What is this about?\n{TEXT}",  # nothing calls for it
        f"Translate into French:\n{TEXT}",
        f"{TEXT}{TEXT} Can you copy that? {TEXT}{TEXT}",  # not where instructions stand
        f"Tell me about edition, incorrectness and copyright.\n{TEXT}",  # inside other words
    ],
)
def test_no_call_to_repeat_is_seen_elsewhere(question: str) -> None:
    assert repeats_the_prompt(Known(question)) is None


def test_an_earlier_answer_is_text_to_repeat() -> None:
    assert repeats_the_prompt(Known("Now fix the last line.", has_earlier_turns=True)) == "edit"


def test_an_explicit_strategy_is_honoured() -> None:
    decoding = {"strategy": "reference", "copy": 8}
    choice = choose(decoding, Known(), Load(running=100))
    assert choice == Choice("reference", {"copy": 8}, "the request asked for it")


def test_an_unknown_strategy_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(ApiError, match="choose one of: auto, autoregressive, jacobi"):
        check({"strategy": "magic"})


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ApiError, match="autoregressive has no option 'window'") as raised:
        check({"strategy": "autoregressive", "window": 4})
    assert raised.value.param == "decoding.window"


@pytest.mark.parametrize("copy", [0, 129, 2.5, True, "8"])
def test_a_value_that_an_option_cannot_have_is_refused(copy: object) -> None:
    with pytest.raises(ApiError, match="option 'copy' is") as raised:
        check({"strategy": "reference", "copy": copy})  # type: ignore[dict-item]
    assert raised.value.param == "decoding.copy"


@pytest.mark.parametrize("decoding", [{"match": 2}, {"strategy": "auto", "match": 2}])
def test_auto_takes_no_options(decoding: dict[str, int | str]) -> None:
    with pytest.raises(ApiError, match="Name the strategy that 'match' is for") as raised:
        check(decoding)
    assert raised.value.param == "decoding.match"


def test_past_answers_are_looked_up_where_they_could_be_used() -> None:
    assert wants_history({})
    assert wants_history({"strategy": "reference"})
    assert wants_history({"strategy": "lookahead"})
    assert not wants_history({"strategy": "autoregressive"})
