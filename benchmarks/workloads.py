"""What the contestants are asked: the project's own prompts and texts nobody has seen before."""

import random
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

from benchmarks.timing import Timing, decode_speed, prefill_speed

DECODE, PREFILL, STREAMS_8, STREAMS_16 = "decode", "prefill", "8 streams", "16 streams"

QUESTIONS = (
    "Why do leaves change colour in autumn?",
    "Tell me a short story about a lighthouse keeper who finds a letter.",
    "How does a bicycle stay upright while it is moving?",
    "Describe a quiet morning in a mountain village.",
    "What should I think about before adopting a dog?",
    "Explain to a child how rain is made.",
    "Write a letter to a friend who is moving to another city.",
    "What makes a good teacher?",
    "Why does bread rise in the oven?",
    "Tell me about a day in the life of a river.",
    "How do birds find their way across an ocean?",
    "Describe the smell of an old library.",
    "What should I pack for a week of hiking?",
    "Explain to a child why the moon changes its shape.",
    "Write a short speech for the opening of a village fair.",
    "What makes a conversation worth remembering?",
)
MOST_STREAMS = 16

_OPENING_WORDS = 3

# A word that stands for itself behind a space, in the spelling of either kind of vocabulary.
_WORD = re.compile("[Ġ▁][a-z]{3,9}")


class Size(NamedTuple):
    """How much of everything is asked in one round."""

    new_tokens: int = 128
    questions: int = 3  # each on its own
    prompt_tokens: int = 1000
    long_prompts: int = 2


QUICK = Size(new_tokens=32, questions=1, long_prompts=1)

Speed = Callable[[Sequence[Timing]], float]


class Workload(NamedTuple):
    """Groups of prompts; the prompts of a group are asked at once. Speed: more is better."""

    name: str
    groups: tuple[tuple[str, ...], ...]
    new_tokens: int
    speed: Speed


class Workloads:
    """Makes the workloads of each round.

    ``render`` puts a question into the model's chat template.
    """

    def __init__(self, tokenizer: Tokenizer, render: Callable[[str], str], size: Size) -> None:
        self._size = size
        self._words = single_token_words(tokenizer)
        self._tokenizer = tokenizer
        self._prompts = tuple(map(render, QUESTIONS))

    def of_round(self, number: int) -> tuple[Workload, ...]:
        """The workloads of one round: the same questions, all prompts new from the first word on.

        No cache of prefixes can help, whoever has one.
        """
        size = self._size
        alone = tuple((prompt,) for prompt in self._opened(f"{number} alone", size.questions))
        long = tuple(
            (self._words_of(f"{number} {i}", size.prompt_tokens),) for i in range(size.long_prompts)
        )
        eight = (self._opened(f"{number} eight", 8),)
        sixteen = (self._opened(f"{number} sixteen", MOST_STREAMS),)
        return (
            Workload(DECODE, alone, size.new_tokens, decode_speed),
            Workload(PREFILL, long, 1, lambda answers: prefill_speed(answers, size.prompt_tokens)),
            Workload(STREAMS_8, eight, size.new_tokens, decode_speed),
            Workload(STREAMS_16, sixteen, size.new_tokens, decode_speed),
        )

    def warm_up(self) -> tuple[Workload, ...]:
        """One group of each kind, of a round that is never counted."""
        return tuple(w._replace(groups=w.groups[:1]) for w in self.of_round(-1))

    def _opened(self, seed: str, count: int) -> tuple[str, ...]:
        """The first questions, each behind words of its own."""
        return tuple(
            self._words_of(f"{seed} {i}", _OPENING_WORDS) + prompt
            for i, prompt in enumerate(self._prompts[:count])
        )

    def _words_of(self, seed: str, count: int) -> str:
        """Random words, different from the first one on, as many tokens as words."""
        text = "".join(random.Random(seed).choices(self._words, k=count))
        assert len(self._tokenizer.encode(text).ids) == count
        return text


def single_token_words(tokenizer: Tokenizer) -> list[str]:
    """The words of the vocabulary that are one token after a space, with that space."""
    words = [f" {token[1:]}" for token in sorted(tokenizer.get_vocab()) if _WORD.fullmatch(token)]
    encoded = tokenizer.encode_batch(words)
    return [word for word, encoding in zip(words, encoded, strict=True) if len(encoding.ids) == 1]
