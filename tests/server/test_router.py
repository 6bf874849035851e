"""Whether a question asks for independent points."""

from collections import Counter
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.router import train
from benchmarks.router.page import GOALS, LANGUAGES, Judged, judged, own_figures
from benchmarks.router.questions import own
from server.question_features import BEGINNING, END, features
from server.question_words import CHINESE, ENGLISH, JAPANESE
from server.router import WEIGHTS, Kind, Router, Scores, Weights, default_router

POINTS = [
    "What are the benefits of learning the violin?",
    "Give me five tips for moving house.",
    "pros and cons of electric scooters",
    "What if the telephone had never been invented?",
    "学小提琴有哪些好处？",
    "搬家有什么要注意的？",
    "電動滑板車的優缺點",
    "バイオリンを習うメリットは何ですか？",
    "引っ越しのコツを5つ教えてください。",
    "電動キックボードの長所と短所",
]
STEPS = [
    "Explain step by step how to install PostgreSQL on Fedora.",
    "recipe for onion soup",
    "请一步一步说明如何安装数据库。",
    "洋葱汤的做法步骤",
    "データベースをインストールする手順を教えてください。",
    "オニオンスープのレシピ",
]
NO_LISTS = [
    "Write a poem about the benefits of learning the violin.",
    "Translate into French: 'What are the benefits of learning the violin?'",
    "Write a Python function that returns the differences of two lists.",
    "Who composed The Four Seasons?",
    "写一首关于小提琴的诗。",
    "把这句话翻译成英文：学小提琴有哪些好处？",
    "《四季》的作者是谁？",
    "バイオリンについての詩を書いてください。",
    "次の文を英語に訳してください：バイオリンを習うメリットは何ですか？",
    "『四季』の作曲者は誰ですか。",
]


def kind_of(question: str) -> Kind:
    return default_router().judge(question).kind


@pytest.fixture(scope="module")
def said() -> list[Judged]:
    return judged(default_router(), own("test"))


@pytest.mark.parametrize("question", POINTS)
def test_benefits_tips_and_the_like_are_independent_points(question: str) -> None:
    assert kind_of(question) == "independent"


@pytest.mark.parametrize("question", STEPS)
def test_a_procedure_or_a_recipe_is_a_list_whose_points_depend_on_each_other(question: str) -> None:
    assert kind_of(question) == "dependent"


@pytest.mark.parametrize("question", NO_LISTS)
def test_texts_translations_code_and_facts_are_no_lists(question: str) -> None:
    assert kind_of(question) == "other"


def test_a_question_after_a_long_story_is_heard() -> None:
    story = "We live in a small flat by the harbour, and the boats are loud. " * 500
    assert kind_of(f"{story}\n\nWhat can we do to sleep better?") == "independent"


def test_work_on_pasted_text_is_no_list() -> None:
    pasted = "The harbour lay still under a thin grey sky. " * 2500
    assert kind_of(f"Summarise this text in one sentence:\n\n{pasted}") == "other"


def test_only_both_ends_of_a_long_prompt_are_read() -> None:
    beginning, end = "a b. " * (BEGINNING // 5), "c d? " * (END // 5)
    assert features(f"{beginning}one{end}.") == features(f"{beginning}{'other ' * 10_000}{end}.")


@pytest.mark.parametrize("language", LANGUAGES)
def test_precision_and_recall_of_unseen_questions_are_as_promised(
    said: list[Judged], language: str
) -> None:
    found = own_figures([each for each in said if each.question.language == language])
    assert found.precision >= GOALS.precision
    assert found.recall >= GOALS.recall


def test_the_test_questions_are_many_and_not_among_the_training_ones() -> None:
    learned, unseen = own("train"), own("test")
    assert len(unseen) >= 300
    texts = [question.text for question in learned + unseen]
    assert [text for text, count in Counter(texts).items() if count > 1] == []


@pytest.mark.parametrize("text", ["", " ", "?", "\n\n", "🙂", "\ud800", "\x00\x1b", "ﷺ" * 5000])
def test_nothing_to_judge_is_no_list(text: str) -> None:
    assert kind_of(text) == "other"


@pytest.mark.parametrize("character", ["a", "好", "の", "?", "`", "'", "。", " "])
def test_a_megabyte_is_judged(character: str) -> None:
    default_router().judge(character * 1_000_000)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(), max_size=1500))  # lone surrogates too
def test_any_text_is_judged(text: str) -> None:
    verdict = default_router().judge(text)
    assert 0 <= verdict.probability <= 1


def test_a_certain_router_does_not_overflow() -> None:
    for independent, dependent in [(1e6, 0.0), (0.0, 1e6), (-1e6, -1e6)]:
        router = Router(Weights(0.5, Scores(independent, dependent), {}))
        assert router.judge("x").probability == (1.0 if independent > 0 else 0.0)


@pytest.mark.parametrize(
    ("classes", "between"), [(ENGLISH, ","), (CHINESE, None), (JAPANESE, None)]
)
def test_no_word_is_of_two_classes(classes: Mapping[str, str], between: str | None) -> None:
    words = [" ".join(w.split()) for listed in classes.values() for w in listed.split(between)]
    assert [word for word, count in Counter(words).items() if count > 1] == []


@pytest.mark.slow
def test_the_weights_are_those_of_the_questions() -> None:
    written = msgspec.json.decode(WEIGHTS.read_bytes(), type=Weights)
    learned = train.train().weights
    assert learned.threshold == written.threshold
    assert learned.bias == pytest.approx(written.bias, abs=0.005)
    for name in learned.features.keys() | written.features.keys():
        nothing = Scores(0.0, 0.0)  # a weight that rounds to nothing is not written
        assert learned.features.get(name, nothing) == pytest.approx(
            written.features.get(name, nothing), abs=0.005
        )
