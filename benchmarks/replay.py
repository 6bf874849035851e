"""How many forwards it takes to say a known text: drafting replayed without a model.

A greedy answer decides what becomes of a draft, so replaying one against another drafter gives the
forwards it would have taken, exactly. With any other text as the target this is forced decoding as
in the LLMA paper (arXiv 2304.04487), whose data comes with answers of a larger model.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from decoding.copying import Copier
from decoding.draft import NO_DRAFT, Draft
from decoding.request import Reference
from decoding.strategies import options
from decoding.tree import LEAST_CHANCE, grow
from decoding.verify import accepted_path

_NOTHING = -1  # no token: what the model "says" behind the end of the target


class Drafter(Protocol):
    """Guesses what comes next, and is told what came."""

    def draft(self) -> Draft:
        """The next guess."""

    def extend(self, tokens: Sequence[int]) -> None:
        """Take over what was emitted."""


class Replay(NamedTuple):
    """What it took to say the target."""

    tokens: int
    forwards: int
    drafted: int

    def plus(self, other: "Replay") -> "Replay":
        """Both together."""
        return Replay(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def tokens_per_forward(self) -> float:
        """Plain decoding has 1."""
        return self.tokens / self.forwards

    @property
    def drafted_per_forward(self) -> float:
        """Tokens verified beside the one that is always computed."""
        return self.drafted / self.forwards


def replay(drafter: Drafter, target: Sequence[int]) -> Replay:
    """Say the target, draft by draft."""
    done = forwards = drafted = 0
    while done < len(target):
        draft = drafter.draft().merged()
        emitted = _emitted(draft, target[done:])
        drafter.extend(emitted)
        done += len(emitted)
        drafted += len(draft.tokens)
        forwards += 1
    return Replay(len(target), forwards, drafted)


def _emitted(draft: Draft, rest: Sequence[int]) -> Sequence[int]:
    depths = [0]
    for parent in draft.parents:
        depths.append(depths[parent + 1] + 1)
    choices = [rest[depth] if depth < len(rest) else _NOTHING for depth in depths]
    return rest[: 1 + len(accepted_path(draft, choices))]


class ReferenceCopy:
    """Our own, at its defaults unless told otherwise, with all that it proposes verified."""

    def __init__(
        self,
        references: Sequence[Reference],
        prompt: Sequence[int],
        *,
        match: int | None = None,
        copy: int | None = None,
    ) -> None:
        defaults = {name: option.default for name, option in options("reference").items()}
        self._copier = Copier(references, prompt, match=match or defaults["match"])
        self._nodes = copy or defaults["copy"]

    def draft(self) -> Draft:
        """The tree that is proposed."""
        return grow([self._copier], nodes=self._nodes, least_chance=LEAST_CHANCE)

    def extend(self, tokens: Sequence[int]) -> None:
        """Take over what was emitted."""
        self._copier.extend(tokens)


class Llma:
    """LLMA as its repository has it (microsoft/LMOps, ``llma/src/decode.py``).

    The last 5 to n tokens of the answer (never of the prompt) are looked up in the documents, the
    longest match first and of its occurrences the first; the k − 1 tokens behind it are the draft.
    """

    LONGEST = 5

    def __init__(self, documents: Sequence[Sequence[int]], *, n: int = 1, k: int = 20) -> None:
        self._shortest, self._k = n, k
        self._answer: list[int] = []
        self._found: dict[tuple[int, ...], tuple[Sequence[int], int]] = {}
        for document in documents:
            for size in range(n, max(n, self.LONGEST) + 1):
                for end in range(size, len(document) + 1):
                    ngram = tuple(document[end - size : end])
                    self._found.setdefault(ngram, (document, end))

    def draft(self) -> Draft:
        """The text behind the first occurrence of the longest match."""
        longest = min(max(self._shortest, self.LONGEST), len(self._answer))
        for size in range(longest, self._shortest - 1, -1):
            if found := self._found.get(tuple(self._answer[-size:])):
                document, end = found
                return Draft.chain(document[end : end + self._k - 1])
        return NO_DRAFT

    def extend(self, tokens: Sequence[int]) -> None:
        """Take over what was emitted."""
        self._answer += tokens


class PromptLookup:
    """transformers' own prompt lookup, with the settings of ``prompt_lookup_num_tokens=10``."""

    def __init__(self, prompt: Sequence[int], eos: Sequence[int], max_length: int) -> None:
        self._tokens = torch.tensor([list(prompt)])
        self._candidates = PromptLookupCandidateGenerator(
            eos_token_id=torch.tensor(eos), num_output_tokens=10, max_length=max_length
        )

    def draft(self) -> Draft:
        """What it would have verified next."""
        candidates, _ = self._candidates.get_candidates(self._tokens)
        return Draft.chain(candidates[0, self._tokens.shape[1] :].tolist())

    def extend(self, tokens: Sequence[int]) -> None:
        """Take over what was emitted."""
        self._tokens = torch.cat([self._tokens, torch.tensor([list(tokens)])], dim=1)
