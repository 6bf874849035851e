"""Questions are recognised by their language, and every file that words them can be used."""

from pathlib import Path

import pytest

from decoding.strategies.skeleton import headings_of
from server import wordings
from server.wordings import NEUTRAL, Wording, WordingError, Wordings

SHIPPED = sorted(file.stem for file in Path(wordings.__file__).parent.glob("*.toml"))
USABLE = 'outline = "Outline: {question}"\npoint = "Point {number}, {heading}"\n'


def written(directory: Path, name: str, text: str) -> Path:
    file = directory / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("en", "What are the causes of the French Revolution?"),
        ("en", "How do I sleep better?"),
        ("en", "HOW DO I SLEEP BETTER"),
        ("en", "Give me some advice"),
        ("en", "Tips for a job interview"),
        ("en", "Is coffee good for health?"),
        ("en", "List of ideas\nfor a birthday"),
        ("en", "Explain photosynthesis"),
        ("zh", "如何提高睡眠质量？"),
        ("zh", "学习英语有哪些方法"),
        ("zh", "請列出減少壓力的方法"),
        ("zh", "用 Python 写代码有什么好处？\n请举例。"),
        ("zh", "请解释 for 循环"),
        ("ja", "どうすればよく眠れますか？"),
        ("ja", "日本経済の成長要因"),
        ("ja", "睡眠の質を高める方法を教えてください"),
        ("ja", "リモートワーク"),
        ("ja", "東京大学合格必要勉強時間は"),
        (NEUTRAL, "Was sind die Ursachen der Französischen Revolution?"),
        (NEUTRAL, "Wie schlafe ich besser? Gib mir Tips!"),
        (NEUTRAL, "Comment mieux dormir ?"),
        (NEUTRAL, "Quels sont les avantages et les inconvénients du télétravail ?"),
        (NEUTRAL, "¿Cómo puedo dormir mejor?"),
        (NEUTRAL, "Dame tips para dormir mejor"),
        (NEUTRAL, "Is het beter om thee of koffie te drinken?"),
        (NEUTRAL, "Hva er fordelene for barn?"),
        (NEUTRAL, "Co to jest inflacja?"),
        (NEUTRAL, "O que fazer quando for viajar?"),
        (NEUTRAL, "Как лучше спать?"),
        (NEUTRAL, "잠을 잘 자려면 어떻게 해야 하나요?"),
        (NEUTRAL, ""),
        (NEUTRAL, "42"),
    ],
)
def test_a_question_is_recognised_by_its_language(language: str, question: str) -> None:
    assert Wordings().language_of(question) == language


@pytest.mark.parametrize("language", SHIPPED)
def test_the_questions_of_examples_are_in_the_language_of_their_file(language: str) -> None:
    questions = [example.question for example in _of(language).examples]
    recognised = {Wordings().language_of(question) for question in questions}
    assert recognised == {language} or language == NEUTRAL


@pytest.mark.parametrize("language", SHIPPED)
def test_examples_are_such_as_the_model_is_to_write(language: str) -> None:
    examples = _of(language).examples
    assert examples
    for example in examples:
        assert headings_of(example.outline) == list(example.points)
        assert len(example.points) >= 3
        assert bool(example.number) == bool(example.text)
        assert "\n" not in example.text


def _of(language: str) -> Wording:
    """The wording of a shipped file, whatever it recognises."""
    return Wordings()._wordings[language]


def test_long_questions_are_recognised_at_once() -> None:
    """A pattern that tries every pair of words would take minutes."""
    assert Wordings().language_of("to " * 30_000) == NEUTRAL
    assert Wordings().language_of("中" * 30_000) == "zh"


# What is said


def test_a_point_is_asked_for_behind_the_outline_of_the_question() -> None:
    wording = Wording(outline="Outline: {question}", point="Point {number}, {heading}")
    assert wording.outline_turns("Why?") == [("user", "Outline: Why?"), ("assistant", "1.")]
    assert wording.point_turns("Why?", "1. A\n2. B", "2", "B") == [
        ("user", "Outline: Why?"),
        ("assistant", "1. A\n2. B"),
        ("user", "Point 2, B"),
    ]


def test_what_is_filled_in_is_not_filled_again() -> None:
    wording = Wording(outline="Outline: {question}", point="{number} {heading}")
    question = "{heading} {number} {question} {{question}} \\1 \\g<0>"
    assert wording.outline_turns(question)[0][1] == f"Outline: {question}"
    point = wording.point_turns(question, "{question}", "{heading}", "{number}")
    assert [text for _, text in point] == [
        f"Outline: {question}",
        "{question}",
        "{heading} {number}",
    ]


def test_examples_show_an_outline_and_perhaps_a_point(tmp_path: Path) -> None:
    example = '[[examples]]\nquestion = "Who?"\npoints = ["A", "B", "C"]\n'
    written(tmp_path, "xx", f'{USABLE}recognised_by = "x"\n{example}number = 2\ntext = "It is."\n')
    assert list(Wordings(tmp_path).of("x").example_turns()) == [
        ("user", "Outline: Who?"),
        ("assistant", "1. A\n2. B\n3. C"),
        ("user", "Point 2, B"),
        ("assistant", "2. B: It is."),
    ]
    written(tmp_path, "xx", f'{USABLE}recognised_by = "x"\n{example}')
    assert len(list(Wordings(tmp_path).of("x").example_turns())) == 2


# Files of an operator


def test_files_of_an_operator_replace_those_of_the_same_name_and_add_others(
    tmp_path: Path,
) -> None:
    written(tmp_path, "de", f'{USABLE}recognised_by = "\\\\bder\\\\b"')
    written(tmp_path, NEUTRAL, USABLE.replace("Outline", "Plan"))
    (tmp_path / "notes.txt").write_text("no wording")
    own = Wordings(tmp_path)
    assert own.language_of("Wer war der Erste?") == "de"
    assert own.of("Wer war der Erste?").outline == "Outline: {question}"
    assert own.of("42").outline == "Plan: {question}"
    assert own.language_of("What is it?") == "en"
    assert own.of("What is it?") == Wordings().of("What is it?")


def test_a_language_can_be_turned_off(tmp_path: Path) -> None:
    """By a file that recognises nothing, as one does that does not say what it recognises."""
    written(tmp_path, "en", USABLE)
    assert Wordings(tmp_path).language_of("What is it?") == NEUTRAL


EXAMPLE = '[[examples]]\nquestion = "Who?"\npoints = ["A", "B"]\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("outline = ", "Invalid value"),
        ("", "outline"),
        (USABLE + 'tone = "kind"', "tone"),
        (USABLE + "recognised_by = 5", "recognised_by"),
        (USABLE + 'recognised_by = "("', "unterminated"),
        (USABLE.replace("{question}", "it"), "{question}"),
        (USABLE.replace("{number}", "1"), "{number}"),
        (USABLE.replace("{heading}", "it"), "{heading}"),
        (USABLE + EXAMPLE + "number = 3", "no point 3"),
        (USABLE + EXAMPLE + "number = -1", "no point -1"),
        (USABLE + EXAMPLE + 'answer = "B"', "answer"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, text: str, complaint: str
) -> None:
    file = written(tmp_path, "broken", text)
    with pytest.raises(WordingError) as caught:
        Wordings(tmp_path)
    assert str(caught.value).startswith(f"{file}: ")
    assert complaint in str(caught.value)


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(WordingError, match=str(file)):
        Wordings(tmp_path)
