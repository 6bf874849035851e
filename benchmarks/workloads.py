"""What the contestants are asked: the project's own prompts and texts nobody has seen before."""

import random
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

from benchmarks.timing import Timing, decode_speed, prefill_speed

DECODE, PREFILL, STREAMS = "decode", "prefill", "streams"

QUESTIONS = (
    "Why do leaves change colour in autumn?",
    "Tell me a short story about a lighthouse keeper who finds a letter.",
    "How does a bicycle stay upright while it is moving?",
    "Describe a quiet morning in a mountain village.",
    "What should I think about before adopting a dog?",
    "Explain to a child how rain is made.",
    "Write a letter to a friend who is moving to another city.",
    "What makes a good teacher?",
)

# A word that stands for itself behind a space, in the spelling of either kind of vocabulary.
_WORD = re.compile("[Ġ▁][a-z]{3,9}")


class Size(NamedTuple):
    """How much of everything is asked in one round."""

    new_tokens: int = 128
    questions: int = 3  # each on its own
    prompt_tokens: int = 1000
    long_prompts: int = 2
    streams: int = 8


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
        """The workloads of one round: the same questions, new long prompts."""
        size = self._size
        alone = tuple((prompt,) for prompt in self._prompts[: size.questions])
        long = tuple((self._long_prompt(f"{number} {i}"),) for i in range(size.long_prompts))
        together = (self._prompts[: size.streams],)
        return (
            Workload(DECODE, alone, size.new_tokens, decode_speed),
            Workload(PREFILL, long, 1, lambda answers: prefill_speed(answers, size.prompt_tokens)),
            Workload(STREAMS, together, size.new_tokens, decode_speed),
        )

    def warm_up(self) -> tuple[Workload, ...]:
        """One group of each kind, of a round that is never counted."""
        return tuple(w._replace(groups=w.groups[:1]) for w in self.of_round(-1))

    def _long_prompt(self, seed: str) -> str:
        """Random words, different from the first one on: no cache of prefixes can help."""
        count = self._size.prompt_tokens
        text = "".join(random.Random(seed).choices(self._words, k=count))
        assert len(self._tokenizer.encode(text).ids) == count
        return text


def single_token_words(tokenizer: Tokenizer) -> list[str]:
    """The words of the vocabulary that are one token after a space, with that space."""
    words = [f" {token[1:]}" for token in sorted(tokenizer.get_vocab()) if _WORD.fullmatch(token)]
    encoded = tokenizer.encode_batch(words)
    return [word for word, encoding in zip(words, encoded, strict=True) if len(encoding.ids) == 1]
