"""The start-up self-check: is a token's row the same bits in every forward?

Kernels differ between processors and library versions, so the promise that drafts, batches, chunks
and cached prefixes change no bit is tried out where it is made: on this machine, with this model.
The first arrangement for which it holds is used; if there is none the engine says so.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from decoding.runner import BLOCK_SIZE, Runner
from decoding.segment import Segment

_ROOM = 512  # slots the trials use
_PROMPT, _ANSWER = 142, 8
_CHUNKINGS = ((1.0,), (0.22, 0.27, 0.7, 1.0), (0.05, 0.5, 0.93, 1.0))  # as shares of the tokens
_COMPANIES = ((), (1,), (3, 1), (17, 2, 40), (1,) * 7, (130,))  # rows of other sequences beside


class Exactness(NamedTuple):
    """What the self-check found."""

    bit_exact: bool
    statement: str


UNCHECKED = Exactness(False, "not checked: the self-check is switched off")


def check(runner: Runner) -> Exactness:
    """Try the ways the runner's model can be computed and leave it with the first that holds.

    Writes over the beginning of the cache and leaves it zero.
    """
    for _ in runner.computation.arrangements():
        held = all(_trials(runner))
        runner.cache[:, : BLOCK_SIZE + _ROOM].zero_()
        if held:
            return Exactness(True, "bit-exact here: self-check passed")
    return Exactness(False, "equal within rounding here: self-check not passed")


def _trials(runner: Runner) -> Iterator[bool]:
    """Compare many ways of computing one text with computing its end a token at a time."""
    text = _Text(runner)
    text.compute([text.prompt])
    expected = torch.cat([text.compute([i + 1]) for i in range(text.prompt, text.length)])
    keys_and_values = text.cached()
    for chunking in _CHUNKINGS:
        ends = [max(1, int(share * text.length)) for share in chunking]
        logits = text.compute(ends, logits_from=text.prompt)
        yield torch.equal(logits, expected)
        yield torch.equal(text.cached(), keys_and_values)
    for company in _COMPANIES:
        text.compute([text.prompt])
        yield torch.equal(text.compute([text.length], company=company), expected)
    text.compute([text.prompt])
    yield torch.equal(text.compute_as_branch(), expected)


class _Text:
    """Random tokens in slots of their own, to be computed in different ways."""

    def __init__(self, runner: Runner) -> None:
        room = min(_ROOM, (runner.num_blocks - 1) * BLOCK_SIZE)
        share = min(1.0, runner.context_length / (_PROMPT + _ANSWER), room / _ROOM)
        self.prompt = int(share * _PROMPT)
        self.length = self.prompt + _ANSWER
        self._runner = runner
        generator = np.random.default_rng(0)
        self._tokens = generator.integers(0, runner.vocabulary_size, self.length).tolist()
        self._slots = BLOCK_SIZE + np.arange(room)
        self._computed = 0

    def compute(
        self, ends: list[int], *, logits_from: int | None = None, company: tuple[int, ...] = ()
    ) -> Tensor:
        """Compute in chunks up to each of ``ends``, from the start unless it continues.

        Returns the last chunk's logits from position ``logits_from`` on, by default all of them.
        """
        if ends[0] <= self._computed:
            self._computed = 0
        logits = torch.empty(0)
        for start, end in pairwise([self._computed, *ends]):
            first = 0 if logits_from is None else max(0, logits_from - start)
            segment = self._chain(self._tokens[start:end], start, self._slots[:end], first)
            logits = self._runner.forward([segment, *self._company(company)])[: end - start - first]
        self._computed = ends[-1]
        return logits

    def compute_as_branch(self) -> Tensor:
        """Compute the end as the second branch of a tree whose first one guesses wrong."""
        end = self._tokens[self.prompt :]
        root, answer = end[0], end[1:]
        wrong = [(token + 1) % self._runner.vocabulary_size for token in answer]
        count = len(answer)
        segment = Segment(
            tokens=[root, *wrong, *answer],
            parents=[-1, *range(count), 0, *range(count + 1, 2 * count)],
            start=self.prompt,
            slots=self._slots[: self.prompt + 1 + 2 * count],
            logits_from=0,
        )
        logits = self._runner.forward([segment])
        return torch.cat([logits[:1], logits[1 + count :]])

    def cached(self) -> Tensor:
        """The keys and values of the text, in every layer."""
        return self._runner.cache[:, self._slots[: self.length]].clone()

    def _company(self, lengths: tuple[int, ...]) -> Iterator[Segment]:
        offset = self.length
        for length in lengths:
            slots = self._slots[offset : offset + length]
            yield self._chain(self._tokens[:length], 0, slots, length - 1)
            offset += length

    @staticmethod
    def _chain(tokens: list[int], start: int, slots: np.ndarray, logits_from: int) -> Segment:
        return Segment(tokens, range(-1, len(tokens) - 1), start, slots, logits_from)
