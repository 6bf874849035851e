"""Jacobi: guess a block of tokens at once and let the model correct all of it in every forward."""

from collections.abc import Mapping
from collections.abc import Sequence as Tokens
from random import Random
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from decoding.confidence import Confidence
from decoding.draft import NO_DRAFT, Draft, Strategy, Verdict
from decoding.experience import Experience
from decoding.request import SourceCounts

if TYPE_CHECKING:
    from decoding.sequence import Sequence

LOSSLESS = True

_LONGEST_SLEEP = 32  # steps without being asked while correcting rests
_OLDEST = 4  # corrections after which a guess counts as no older
# The chance that a guess is right, by the corrections it has been through
_PRIORS = (0.05, 0.4, 0.6, 0.7, 0.8)


def decode(
    seq: "Sequence",
    *,
    block: Annotated[int, Meta(ge=2, le=128)] = 16,
    shrinking: bool = False,
) -> Strategy:
    """Fixed-point decoding of the ``block`` tokens behind the last one.

    With ``shrinking`` it is the decoder of consistency language models as published (Kou et al.,
    arXiv 2403.00835): a block is corrected until all of it has converged, then the next one begins.
    Otherwise new positions open as the beginning converges (Jacobi Forcing, arXiv 2512.14681), and
    where correcting does not pay it rests: plain models gain little from it.
    """
    return (yield from _shrinking(seq, block) if shrinking else _sliding(seq, block))


def figures(
    sources: Mapping[str, SourceCounts], *, block: int = 16, shrinking: bool = False
) -> dict[str, float]:
    """The papers' measures, counted over the forwards that corrected guesses.

    ``iterations_per_block`` is how many of them it took to say as many tokens as a block has.
    """
    counts = sources.get("jacobi", SourceCounts())
    if not counts.drafts:
        return {}
    tokens_per_iteration = 1 + counts.accepted / counts.drafts
    return {
        "iterations": counts.drafts,
        "tokens_per_iteration": round(tokens_per_iteration, 3),
        "iterations_per_block": round(block / tokens_per_iteration, 2),
    }


def _shrinking(seq: "Sequence", size: int) -> Strategy:
    random = Random(len(seq.tokens))
    guesses: list[int] = []
    while True:
        # The block's first token is the last one committed: size − 1 are left to guess.
        guesses = guesses or [random.choice(seq.request.prompt) for _ in range(size - 1)]
        verdict = yield Draft.chain(guesses)
        left = len(guesses) - len(verdict.tokens)
        guesses = list(verdict.choices[len(verdict.tokens) :][: max(0, left)])


def _sliding(seq: "Sequence", size: int) -> Strategy:
    block = _Block(seq.request.prompt, size, seq.experience)
    trial = seq.experience.trials["jacobi"]
    while True:
        if asleep := min(trial.rest, _LONGEST_SLEEP):
            seq.pause = asleep - 1  # and is not asked now either
            verdict = yield NO_DRAFT
            trial.pass_steps(asleep)
            block.move(len(verdict.tokens))
        else:
            verdict = yield block.draft()
            block.learn(verdict)


class _Block:
    """Guesses at the next tokens, each with the number of corrections it has been through."""

    def __init__(self, prompt: Tokens[int], size: int, experience: Experience) -> None:
        self._prompt = prompt
        self._size = size
        self._random = Random(len(prompt))
        self._confidence = Confidence(experience.confidence)
        self._trial = experience.trials["jacobi"]
        self._guesses: list[tuple[int, int]] = []
        self._fill()

    def draft(self) -> Draft:
        """The block as a chain. What cannot be right yet is worth what correcting has brought."""
        chances: list[float] = []
        chance = 1.0
        for _, age in self._guesses:
            chance *= self._confidence.chance(("jacobi", age), _PRIORS[age])
            chances.append(max(chance, self._trial.worth))
        chain = Draft.chain([token for token, _ in self._guesses])
        return Draft(chain.tokens, chain.parents, tuple(chances))

    def learn(self, verdict: Verdict) -> None:
        """Take over the model's corrections, and open positions for what was emitted."""
        verified = len(verdict.verified.tokens)
        if verified < self._size // 2:
            self._trial.refused()
        else:
            self._trial.took(verified, verdict.accepted)
        for (_, age), is_right in zip(self._guesses, _outcomes(verdict), strict=False):
            self._confidence.learn(("jacobi", age), is_right)
        # choices[i] is the model's token at the place of guess i, if all before it were right.
        for place in range(min(verified + 1, self._size)):
            _, age = self._guesses[place]
            self._guesses[place] = verdict.choices[place], min(age + 1, _OLDEST)
        self.move(len(verdict.tokens))

    def move(self, emitted: int) -> None:
        """Open positions for what was emitted."""
        del self._guesses[:emitted]
        self._fill()

    def _fill(self) -> None:
        while len(self._guesses) < self._size:
            self._guesses.append((self._random.choice(self._prompt), 0))


def _outcomes(verdict: Verdict) -> list[bool]:
    """Whether each guess was right, up to the first that was not."""
    is_cut = verdict.accepted < len(verdict.verified.tokens)
    return [True] * verdict.accepted + [False] * is_cut
