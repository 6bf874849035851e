"""What has happened to one request so far, added up from the engine's outputs."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from decoding.copying import Agreement
from decoding.request import BranchCounts, Explanation, FinishReason, Output, SourceCounts

MOST_EXPLANATIONS = 1024  # of steps, in one answer


@dataclass
class ChoiceTally:
    """One choice: its tokens, since when, until when, and how far a prediction was right."""

    agreement: Agreement | None = None
    answer: list[int] = field(default_factory=list)
    at_first: int = 0  # tokens of its first news: a draft may have been accepted there already
    first_at: float = 0.0
    last_at: float = 0.0
    finish_reason: FinishReason | None = None

    @property
    def tokens(self) -> int:
        """How many it has so far."""
        return len(self.answer)

    @property
    def later(self) -> int:
        """Tokens after its first news."""
        return self.tokens - self.at_first

    @property
    def seconds_per_token(self) -> float | None:
        """Time per token after its first news, or None when there was no other."""
        return (self.last_at - self.first_at) / self.later if self.later else None


@dataclass
class Tally:
    """All choices of one request. Times are monotonic."""

    arrived: float
    prompt_tokens: int
    handed_on: float = 0.0  # to the engine
    queue_seconds: float | None = None
    prediction: tuple[int, ...] = ()
    cached_tokens: int = 0
    steps: int = 0
    drafted: int = 0
    accepted: int = 0
    sources: dict[str, SourceCounts] = field(default_factory=dict)
    explanations: list[tuple[int, Explanation]] = field(default_factory=list)  # with the choice
    choices: dict[int, ChoiceTally] = field(default_factory=dict)
    branches: BranchCounts = field(default_factory=BranchCounts)
    fallbacks: int = 0  # choices that their strategy could not answer
    fallback_reason: str = ""

    @property
    def completion_tokens(self) -> int:
        """Tokens of all answers, drafts not counted."""
        return sum(choice.tokens for choice in self.choices.values())

    @property
    def accepted_prediction(self) -> int:
        """Tokens of the prediction that appeared in the answers."""
        return sum(agreement.accepted for agreement in self._agreements())

    @property
    def rejected_prediction(self) -> int:
        """Tokens of the prediction that did not appear in the answers."""
        return sum(agreement.rejected for agreement in self._agreements())

    def _agreements(self) -> Iterator[Agreement]:
        return (choice.agreement for choice in self.choices.values() if choice.agreement)

    @property
    def steps_saved(self) -> int:
        """Forward passes that plain decoding would have needed beyond those made."""
        return self.completion_tokens - self.steps

    @property
    def first_token_seconds(self) -> float | None:
        """From arrival to the first token, or None before it."""
        times = [choice.first_at for choice in self.choices.values() if choice.tokens]
        return min(times) - self.arrived if times else None

    @property
    def admission_seconds(self) -> float:
        """From arrival to the engine."""
        return self.handed_on - self.arrived

    @property
    def prefill_seconds(self) -> float | None:
        """From the beginning of the engine's work to the first token, where both are known."""
        first_token = self.first_token_seconds
        if first_token is None or self.queue_seconds is None:
            return None
        return max(0.0, first_token - self.admission_seconds - self.queue_seconds)

    @property
    def decode_seconds(self) -> float | None:
        """From the first token to the last, or None when there was none."""
        choices = [choice for choice in self.choices.values() if choice.tokens]
        if not choices:
            return None
        return max(c.last_at for c in choices) - min(c.first_at for c in choices)

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of all choices together after their first news; None when there was no other."""
        going = [choice for choice in self.choices.values() if choice.later]
        if not going:
            return None
        seconds = max(c.last_at for c in going) - min(c.first_at for c in going)
        return sum(c.later for c in going) / seconds if seconds > 0 else None

    @property
    def finish_reason(self) -> FinishReason | None:
        """Of the first choice, which stands for the request in the metrics."""
        return self.choices[0].finish_reason if 0 in self.choices else None

    def add(self, index: int, output: Output) -> float | None:
        """Count what a step added to a choice; returns the seconds since its last tokens."""
        now = time.monotonic()
        choice = self._choice(index)
        choice.finish_reason = output.finish_reason or choice.finish_reason
        self.cached_tokens += output.cached_tokens or 0
        self.steps += output.steps
        self.drafted += output.drafted
        self.accepted += output.accepted
        if self.queue_seconds is None:
            self.queue_seconds = output.queue_seconds
        self._add_drafts(index, output)
        self._add_branches(output)
        return self._advance(choice, output.tokens, now)

    def _add_drafts(self, index: int, output: Output) -> None:
        for source, counts in output.sources.items():
            self.sources.setdefault(source, SourceCounts()).add(counts)
        if output.explanation is not None and len(self.explanations) < MOST_EXPLANATIONS:
            self.explanations.append((index, output.explanation))

    def _add_branches(self, output: Output) -> None:
        if output.branches is not None:
            self.branches.add(output.branches)
        if output.fallback is not None:
            self.fallbacks += 1
            self.fallback_reason = output.fallback

    def _choice(self, index: int) -> ChoiceTally:
        if index not in self.choices:
            agreement = Agreement(self.prediction) if self.prediction else None
            self.choices[index] = ChoiceTally(agreement)
        return self.choices[index]

    @staticmethod
    def _advance(choice: ChoiceTally, tokens: Sequence[int], now: float) -> float | None:
        if not tokens:
            return None
        if choice.agreement:
            choice.agreement.extend(tokens)
        gap = now - choice.last_at if choice.tokens else None
        if gap is None:
            choice.first_at, choice.at_first = now, len(tokens)
        choice.answer += tokens
        choice.last_at = now
        return gap
