"""The choice of a strategy."""

import re

import pytest

from decoding.request import OptionValue
from server.engine_client import Load
from server.errors import ApiError
from server.scheduler import (
    Cause,
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
    assert choice == Choice("lookahead", {}, "open", reason)
    assert choice.lossless


@pytest.mark.parametrize(
    ("known", "cause", "reason"),
    [
        ({"has_prediction": True}, "prediction", "the request predicts the answer"),
        ({"has_documents": True}, "documents", "the request brings documents"),
        ({"history": "hit"}, "history", "the same prompt was answered before"),
        ({"history": "similar"}, "history", "a similar prompt was answered before"),
        (
            {"question": f"Fix the typos.\n{TEXT}"},
            "prompt",
            "the prompt asks to edit text that it holds",
        ),
    ],
)
def test_auto_copies_where_something_is_known(
    known: dict[str, object], cause: Cause, reason: str
) -> None:
    assert automatic(**known) == Choice("reference", {}, cause, reason)


def test_auto_corrects_blocks_of_models_trained_for_it() -> None:
    policy = Policy(consistency_trained=True)
    choice = choose({}, Known("What is gravity?"), Load(), policy)
    assert choice == Choice("jacobi", {}, "trained", "the model is trained for it")
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
    assert choice == Choice("reference", {"copy": 8}, "asked", "the request asked for it")


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


LIST = "What are the benefits of regular exercise?"
POINTS = "the question asks for points that stand alone"


def test_auto_has_questions_for_points_answered_by_skeleton_and_says_how_sure_it_is() -> None:
    choice = choose({}, Known(LIST), Load())
    assert (choice.strategy, choice.cause) == ("skeleton", "points")
    assert re.fullmatch(rf"{POINTS} \(\d+% sure\)", choice.reason)
    assert not choice.lossless


def test_a_skeleton_has_the_best_lossless_strategy_to_fall_back_to() -> None:
    reason = "nothing is known that the answer would repeat"
    lookahead = Choice("lookahead", {"nodes": 9}, "open", reason)
    policy = Policy({"lookahead": {"nodes": 9}})
    assert choose({}, Known(LIST), Load(), policy).fallback == lookahead
    asked: dict[str, OptionValue] = {"strategy": "skeleton", "points": 4}
    assert choose(asked, Known("Hello"), Load(), policy).fallback == lookahead
    with_documents = choose(asked, Known("Hello", has_documents=True), Load(), policy)
    assert with_documents.fallback is not None
    assert with_documents.fallback.strategy == "reference"


@pytest.mark.parametrize(
    ("known", "load", "policy"),
    [
        (Known(LIST, pinned_by="seed"), Load(), Policy()),
        (Known(LIST, answer_limit=64), Load(), Policy()),
        (Known(LIST), Load(requests=4), Policy()),
        (Known(LIST), Load(), Policy(skeleton_beside=0)),
        (Known(LIST), Load(), Policy(lossless_only=True)),
        (Known("What is the capital of France?"), Load(), Policy()),
        (Known("How do I bake bread, step by step?"), Load(), Policy()),
    ],
)
def test_auto_changes_no_answer_that_should_not_change(
    known: Known, load: Load, policy: Policy
) -> None:
    assert choose({}, known, load, policy).lossless


def test_what_would_be_copied_is_not_asked_for_in_points() -> None:
    assert choose({}, Known(LIST, history="hit"), Load()).strategy == "reference"
    assert choose({}, Known(LIST, has_documents=True), Load()).strategy == "reference"


def test_room_for_more_requests_beside_a_skeleton_is_a_setting() -> None:
    policy = Policy(skeleton_beside=2)
    assert choose({}, Known(LIST), Load(requests=1), policy).strategy == "skeleton"
    assert choose({}, Known(LIST), Load(requests=2), policy).strategy == "lookahead"


@pytest.mark.parametrize("known", [Known(LIST), Known("Hello"), Known(has_documents=True)])
def test_an_answer_too_short_to_guess_at_is_decoded_plainly(known: Known) -> None:
    choice = choose({}, known._replace(answer_limit=4), Load())
    reason = "an answer of 4 tokens at most leaves nothing to guess"
    assert choice == Choice("autoregressive", {}, "short", reason)
    assert choose({}, known._replace(answer_limit=5), Load()).strategy != "autoregressive"


def test_auto_decodes_plainly_while_drafting_rests() -> None:
    choice = choose({}, Known("Hello"), Load(running=30, drafting_rests=True))
    reason = "beside 30 others drafting does not pay now"
    assert choice == Choice("autoregressive", {}, "busy", reason)
    known = Known("Hello", has_prediction=True)
    assert choose({}, known, Load(drafting_rests=True)).strategy == "reference"


@pytest.mark.parametrize("field", ["budget", "lossless"])
def test_a_field_that_is_no_option_is_true_or_false(field: str) -> None:
    check({field: True})
    check({"strategy": "lookahead", field: False})
    with pytest.raises(ApiError, match="must be true or false") as raised:
        check({field: 1})
    assert raised.value.param == f"decoding.{field}"
