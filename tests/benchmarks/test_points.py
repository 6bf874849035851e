"""The count of good points: form and words, each fault by an example."""

import pytest

from benchmarks.points import Point, faults, points_of

QUESTION = "How can I keep my bicycle in good order?"
GOOD = """\
1. Clean the chain: Dirt wears a chain down. A drop of oil after each wet ride is enough.
2. Check the tyres: Press them before you set out, e.g. with your thumb.
3. Store it dry: A shed keeps rust away!"""


def fault_of(body: str) -> str:
    """What is wrong with a body between two other points."""
    return faults(f"1. Tyre pressure: Ten.\n2. Clean the chain: {body}\n3. Brakes: No.", QUESTION)[
        1
    ]


def test_an_answer_is_taken_apart_at_its_numbers() -> None:
    assert [point.heading for point in points_of(GOOD)] == [
        "Clean the chain",
        "Check the tyres",
        "Store it dry",
    ]
    assert points_of(GOOD)[2] == Point("Store it dry", "A shed keeps rust away!")


def test_lines_that_are_no_next_point_belong_to_the_one_above() -> None:
    answer = "1. Oil: Use little.\n3. Grease: No.\nAnd so on.\n2. Air: Use much."
    assert [point.heading for point in points_of(answer)] == ["Oil", "Air"]
    assert points_of(answer)[0].body == "Use little.\n3. Grease: No.\nAnd so on."


@pytest.mark.parametrize("answer", ["", "A bicycle lasts if it is cleaned.", "- Oil: Use little."])
def test_an_answer_without_points_has_none(answer: str) -> None:
    assert faults(answer, QUESTION) == []


def test_good_points_have_no_fault() -> None:
    assert faults(GOOD, QUESTION) == ["", "", ""]


@pytest.mark.parametrize(
    "body",
    [
        "Grit, e.g. from wet roads, wears it down.",
        "Wipe it. Oil it. Wipe it again.",
        "A mechanic once told me: “Wipe it every week.”",
        "Chains last for about 2.5 years, or 3,000 miles, if they stay clean.",
    ],
)
def test_one_to_three_sentences_are_good(body: str) -> None:
    assert fault_of(body) == ""


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("", "under 20 characters"),
        ("Use oil.", "under 20 characters"),
        ("Wipe it down with a cloth and then", "breaks off in a sentence"),
        ("Wipe it well. Oil it. Wait an hour. Wipe it again.", "over 3 sentences"),
        ("Wipe it with a cloth. wipe it, with a cloth!", "says a sentence twice"),
        ("Wipe it with a cloth. 3. Pump the tyres up.", "goes on with a list or a paragraph"),
        ("Wipe it with a cloth.\n\nThen ride on.", "goes on with a list or a paragraph"),
    ],
)
def test_form(body: str, fault: str) -> None:
    assert fault_of(body) == fault


def test_more_words_of_another_heading_than_of_its_own_are_a_fault() -> None:
    assert fault_of("Tyres under the right pressure roll well.") == "is closer to another heading"
    assert fault_of("With a clean chain and tyres at the right pressure it rolls well.") == ""


def test_one_word_in_common_is_chance() -> None:
    assert fault_of("Too much pressure on the cloth does harm.") == ""


def test_words_of_the_question_tell_nothing() -> None:
    answer = (
        "1. Bicycle order: It is a good thing.\n2. Oil: Bicycle parts in good order need little."
    )
    assert faults(answer, QUESTION)[1] == ""
