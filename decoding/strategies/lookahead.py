"""Lookahead: guesses from known text, recycled rows, earlier answers and a window of Jacobi."""

from random import Random
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from decoding.copying import Copier
from decoding.draft import Draft, Strategy, Verdict
from decoding.phrases import PhraseGuesser
from decoding.recycling import Recycler
from decoding.tree import grow
from decoding.trial import Trial
from decoding.verify import accepted_path
from decoding.window import NgramPool, PoolGuesser, Window

if TYPE_CHECKING:
    from decoding.sequence import Sequence

LOSSLESS = True

_Guesser = Copier | Recycler | PhraseGuesser | PoolGuesser
_LEAD = 3  # tokens of the prompt that the first phrases of an answer begin with


def decode(
    seq: "Sequence",
    *,
    window: Annotated[int, Meta(ge=0, le=64)] = 0,
    ngram: Annotated[int, Meta(ge=3, le=16)] = 5,
    guesses: Annotated[int, Meta(ge=1, le=64)] = 7,
    copying: bool = True,
    recycling: bool = True,
    phrases: bool = True,
    nodes: Annotated[int, Meta(ge=1, le=256)] = 96,
) -> Strategy:
    """Grow one tree from all sources, with the window beside it.

    Lookahead decoding (Fu et al., arXiv 2402.02057) with its W, N and G: ``window`` columns (none
    unless asked for), n-grams of ``ngram`` tokens, ``guesses`` of them kept for each token. With a
    window and without ``copying`` (prompt, answer and references, as in the strategy
    ``reference``), ``recycling`` and ``phrases`` (of earlier answers) it is the published
    algorithm, step for step, but that the window's own paths may be accepted, too. ``nodes`` is the
    most that the tree has beside the window.
    """
    lookahead = None
    if window:
        # Alone it is what was asked for, whether it pays or not.
        has_company = copying or recycling or phrases
        trial = seq.experience.trials["window"] if has_company else Trial()
        lookahead = _Lookahead(seq, window, ngram, guesses, trial)
    guessers = _guessers(seq, copying=copying, recycling=recycling, phrases=phrases)
    guessers += [lookahead.guesser] if lookahead else []
    seq.recycles = recycling
    try:
        yield from _drafts(seq, guessers, lookahead, nodes)
    finally:
        if phrases:  # the next answers may say the same
            answer = seq.tokens[max(0, seq.num_prompt - _LEAD) :]
            seq.experience.phrases.learn(seq.request.cache_salt, answer)
    return None


def _drafts(
    seq: "Sequence", guessers: list[_Guesser], lookahead: "_Lookahead | None", nodes: int
) -> Strategy:
    while True:
        if lookahead and len(guessers) == 1:
            verdict = yield lookahead.published()
        else:
            draft = grow(guessers, nodes=nodes, least_chance=seq.least_chance)
            verdict = yield lookahead.beside(draft) if lookahead else draft
        # The guessers first: they compare with what they guessed, before the pool has more.
        for guesser in guessers:
            guesser.extend(verdict.tokens)
        if lookahead:
            lookahead.learn(verdict)


def _guessers(seq: "Sequence", *, copying: bool, recycling: bool, phrases: bool) -> list[_Guesser]:
    """The sources beside the window."""
    experience, references = seq.experience, seq.request.references
    guessers: list[_Guesser] = []
    if copying:
        guessers.append(Copier(references, seq.tokens, match=1, general=experience.confidence))
    if recycling:
        last = seq.tokens[-1]
        guessers.append(Recycler(experience.successors, last, experience.confidence))
    if phrases:
        salt = seq.request.cache_salt
        guessers.append(PhraseGuesser(experience.phrases, salt, seq.tokens, experience.confidence))
    return guessers


class _Lookahead:
    """The window and its pool in one sequence."""

    def __init__(self, seq: "Sequence", width: int, ngram: int, guesses: int, trial: Trial) -> None:
        random = Random(len(seq.tokens))
        self._window = Window(width, ngram, lambda: random.choice(seq.request.prompt))
        self._pool = NgramPool(guesses)
        self.guesser = PoolGuesser(self._pool, seq.tokens[-1], seq.experience.confidence)
        self._last = seq.tokens[-1]
        self._trial = trial

    def published(self) -> Draft:
        """All guesses as chains, then the window, whatever they cost."""
        tokens, parents = self._window.tree()
        size = len(tokens)
        for continuation in self._pool.of(self._last):
            parents += [-1, *range(len(tokens), len(tokens) + len(continuation) - 1)]
            tokens += continuation
        sources = ("",) * size + ("pool",) * (len(tokens) - size)
        return Draft(tuple(tokens), tuple(parents), sources=sources)

    def beside(self, draft: Draft) -> Draft:
        """The draft with the window behind it, unless that did not pay lately."""
        if self._trial.is_resting:
            return draft
        tokens, parents = self._window.tree()
        first = len(draft.tokens)
        return Draft(
            (*draft.tokens, *tokens),
            (*draft.parents, *(first + parent if parent >= 0 else -1 for parent in parents)),
            (*draft.chances, *[self._trial.worth] * len(tokens)),
            (*draft.sources, *[""] * len(tokens)),
        )

    def learn(self, verdict: Verdict) -> None:
        """Take over what the model said behind the window's newest row."""
        last, self._last = self._last, verdict.tokens[-1]
        if self._trial.is_resting:
            self._trial.pass_steps(1)
            return
        following = self._following(verdict)
        if following is None:
            self._trial.refused()
            return
        for found in self._window.advance(last, following):
            self._pool.add(found)
        self._count(verdict)

    def _following(self, verdict: Verdict) -> list[int] | None:
        """The model's tokens behind the newest row, if the whole window was in the forward."""
        verified = verdict.verified
        node_of = {
            (parent, token): node
            for node, (parent, token) in enumerate(
                zip(verified.parents, verified.tokens, strict=True)
            )
        }
        place: list[int] = []
        for token, parent in zip(*self._window.tree(), strict=True):
            node = node_of.get((place[parent] if parent >= 0 else -1, token))
            if node is None:
                return None
            place.append(node)
        newest = place[len(place) - len(self._window.rows[-1]) :]
        return [verdict.choices[1 + node] for node in newest]

    def _count(self, verdict: Verdict) -> None:
        sources = verdict.verified.sources
        path = accepted_path(verdict.verified, verdict.choices)
        if sources:
            won = sum(sources[node] in ("", "pool") for node in path)
            self._trial.took(spent=sources.count(""), won=won)
