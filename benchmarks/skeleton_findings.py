"""What skeleton-of-thought is measured on, in which ways, and what is found out: plain values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.chatting import ChatAnswer
from benchmarks.loops import ends_in_a_loop
from benchmarks.points import faults
from benchmarks.served_load import ServedLoad

PLAIN = "plain"
EQUAL = "plain, of equal length"
LOSSLESS = "auto, lossless"
SKELETON = "skeleton"
WAYS = (PLAIN, LOSSLESS, SKELETON, EQUAL)

_PLAIN: Mapping[str, Any] = MappingProxyType({"strategy": "autoregressive"})
DECODING: Mapping[str, Mapping[str, Any]] = {
    PLAIN: _PLAIN,
    EQUAL: _PLAIN,
    LOSSLESS: {"lossless": True},
    SKELETON: {"strategy": "skeleton"},
}
AUTO: Mapping[str, Any] = MappingProxyType({})

Answers = Mapping[str, ChatAnswer]
"""What one question was answered in each way."""


class ListQuestion(NamedTuple):
    """One question, and the prompt in which skeleton asks for its outline.

    Its tokens, and how many of them are in blocks that the prompts of all outlines share.
    """

    category: str
    text: str
    outline_tokens: int
    shared_outline_tokens: int


class ServedBatch(NamedTuple):
    """The same questions, so many at a time, answered in two ways."""

    streams: int
    plain: ServedLoad
    auto: ServedLoad


class ListFindings(NamedTuple):
    """All that was found out.

    ``rounds`` holds the answers to every question in every round, ``upstream`` the same for a
    server that has another one answer. ``other_load`` is the share of the processors that others
    had.
    """

    questions: Sequence[ListQuestion]
    rounds: Sequence[Sequence[Answers]]
    batches: Sequence[ServedBatch]
    upstream: Sequence[Sequence[Answers]]
    other_load: float

    @property
    def categories(self) -> list[str]:
        """In the order of the questions."""
        return list(dict.fromkeys(question.category for question in self.questions))

    def numbers(
        self, category: str | None = None, *, fallen: bool = True, loops: bool = True
    ) -> list[int]:
        """The questions of a category, or of all.

        Those that fell back are among them unless told otherwise, as are those to which plain
        decoding's answer is a loop.
        """
        return [
            number
            for number, question in enumerate(self.questions)
            if category in (None, question.category)
            and (fallen or not self.fell_back(number))
            and (loops or not self.is_loop(number))
        ]

    def fell_back(self, number: int) -> bool:
        """Whether skeleton could not answer a question."""
        return "fallback" in self.rounds[0][number][SKELETON].decoding

    def is_loop(self, number: int) -> bool:
        """Whether plain decoding ends in the same words over and over."""
        words = self.rounds[0][number][PLAIN].text.split()
        return ends_in_a_loop([hash(word) for word in words])

    @property
    def fallback_reasons(self) -> Mapping[str, int]:
        """Why questions fell back, and how many."""
        found = self.rounds[0]
        return Counter(
            str(found[number][SKELETON].decoding["fallback"]["reason"])
            for number in self.numbers()
            if self.fell_back(number)
        )

    def answers(self, way: str, numbers: Sequence[int]) -> list[ChatAnswer]:
        """The answers of all rounds to some questions in one way."""
        return [each[number][way] for each in self.rounds for number in numbers]

    def seconds(self, way: str, number: int) -> float:
        """How long one question took, median of the rounds."""
        return median(each[number][way].seconds for each in self.rounds)

    def speedup(self, number: int, over: str = PLAIN) -> float:
        """How many times as fast as another way skeleton answered a question, median of rounds."""
        return median(_ratio(each[number], over) for each in self.rounds)

    def speedups(self, over: str, numbers: Sequence[int]) -> list[float]:
        """The median of some questions, round by round."""
        return [median(_ratio(each[number], over) for number in numbers) for each in self.rounds]

    def faults(self, numbers: Sequence[int]) -> list[str]:
        """What is wrong with each point that skeleton made; empty where nothing is."""
        return [
            fault
            for number in numbers
            if not self.fell_back(number)
            for fault in faults(self.rounds[0][number][SKELETON].text, self.questions[number].text)
        ]

    @property
    def shared_by_points(self) -> float:
        """The share of the prompts of points that was in the cache.

        The server adds up the prompts of an outline and of its points; the outline's is taken out.
        """
        shared = read = 0
        for number in self.numbers(fallen=False):
            question = self.questions[number]
            for answer in self.answers(SKELETON, [number]):
                shared += answer.decoding["branches"]["shared_prompt_tokens"]
                shared -= question.shared_outline_tokens
                read += answer.decoding["branches"]["prompt_tokens"] - question.outline_tokens
        return shared / read if read else 0.0

    @property
    def different_lossless_answers(self) -> int:
        """Lossless answers that are not plain decoding's: there must be none."""
        return sum(each[PLAIN].text != each[LOSSLESS].text for one in self.rounds for each in one)


def upstream_speedups(findings: ListFindings) -> list[float]:
    """The median of all questions, round by round, through a server that has another answer."""
    return [median(_ratio(answers, LOSSLESS) for answers in each) for each in findings.upstream]


def _ratio(answers: Answers, over: str) -> float:
    return answers[over].seconds / answers[SKELETON].seconds
