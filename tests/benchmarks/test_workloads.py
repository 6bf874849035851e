"""What is asked: enough at once, and nothing that a cache of prefixes has seen before."""

from itertools import product
from string import ascii_lowercase

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import ByteLevel

from benchmarks.workloads import MOST_STREAMS, QUESTIONS, QUICK, Workloads


@pytest.fixture
def workloads() -> Workloads:
    words = ["Ġ" + "".join(letters) for letters in product(ascii_lowercase, repeat=3)]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return Workloads(tokenizer, lambda question: f"<user>{question}", QUICK)


def test_there_is_a_question_for_every_stream() -> None:
    assert len(set(QUESTIONS)) == len(QUESTIONS) == MOST_STREAMS


def test_streams_are_asked_all_at_once(workloads: Workloads) -> None:
    sizes = {w.name: [len(group) for group in w.groups] for w in workloads.of_round(0)}
    assert sizes == {"decode": [1], "prefill": [1], "8 streams": [8], "16 streams": [16]}


def test_no_prompt_begins_as_another_one_in_any_round(workloads: Workloads) -> None:
    rounds = [workloads.warm_up(), workloads.of_round(0), workloads.of_round(1)]
    prompts = [p for round_ in rounds for w in round_ for group in w.groups for p in group]
    beginnings = {tuple(prompt.split("<")[0].split()[:3]) for prompt in prompts}
    assert len(beginnings) == len(prompts)


def test_every_contestant_is_asked_the_same(workloads: Workloads) -> None:
    assert [w.groups for w in workloads.of_round(3)] == [w.groups for w in workloads.of_round(3)]
