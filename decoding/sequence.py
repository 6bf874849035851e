"""A request in progress: one of its choices, from the waiting line to the last token."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

from torch import Tensor

from decoding.cache import BlockTable
from decoding.draft import NO_DRAFT, Draft, Fork, Strategy, Verdict
from decoding.experience import Experience
from decoding.patience import Account
from decoding.request import Decision, FinishReason, Output, Request, TokenLogprob
from decoding.sampling import Row, choice_seed, log_probabilities
from decoding.text import TextStream
from decoding.tree import LEAST_CHANCE

logger = logging.getLogger(__name__)


class Sequence:
    """Tokens computed and tokens wanted; everything else is derived or belongs to the request.

    The keys and values of ``tokens[:computed]`` are in the cache. There is no prefill phase and no
    decode phase: each step computes some of the rest and, when it reaches the end, a draft too.
    """

    def __init__(
        self,
        request: Request,
        index: int,
        table: BlockTable,
        vocabulary_size: int,
        text: TextStream | None = None,
        experience: Experience | None = None,
        asked_by: Request | None = None,
    ) -> None:
        self.request = request
        self.index = index
        self.asked_by = asked_by or request  # what a user sent: not the same for a branch of it
        self.vocabulary_size = vocabulary_size
        self.tokens = list(request.prompt)
        self.computed = 0
        self.table = table
        self.finish_reason: FinishReason | None = None
        self.output = Output(request_id=request.id, index=index)  # the news of this step
        self.arrived = perf_counter()
        self.experience = experience or Experience(vocabulary_size)
        self.recycles = False  # whether it drafts from the successors in it
        self.least_chance = LEAST_CHANCE  # of a guess, for it to be worth proposing now
        self.pause = 0  # steps for which it is not to be asked for a draft; strategies may set it
        self.fruitless = 0  # how often in a row it was asked among many and granted nothing
        self.account = Account()  # of what it may lose by the drafts of others
        self.decision: Decision | None = None  # the budget's, about its draft
        self._seed = choice_seed(request.sampling.seed, index)
        self._text = text
        self._strategy: Strategy | None = None
        self._draft: Draft | None = None  # asked for and not verified yet
        self._verdict: Verdict | None = None  # the last one
        self._is_new = True  # the strategy was never asked
        self._was_asked = False  # it was asked since the last verdict
        # The prompt's log-probabilities so far; None when unasked or handed over.
        self._prompt_scores: list[TokenLogprob] | None = None
        if request.prompt_logprobs is not None:
            self._prompt_scores = []

    # --- what it is ---

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt)

    @property
    def num_answer(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) - self.num_prompt

    @property
    def num_uncomputed(self) -> int:
        """Committed tokens whose keys and values are not in the cache; at least one."""
        return len(self.tokens) - self.computed

    @property
    def num_remaining(self) -> int:
        """Tokens the answer may still gain."""
        return self.request.stopping.max_tokens - self.num_answer

    @property
    def scores_prompt(self) -> bool:
        """Whether log-probabilities of prompt tokens are still to be computed."""
        return self._prompt_scores is not None

    @property
    def is_finished(self) -> bool:
        """Whether the answer is complete or failed."""
        return self.finish_reason is not None

    # --- drafting ---

    def start(self, decode: Callable[["Sequence"], Strategy]) -> None:
        """Hand it to a strategy."""
        self._strategy = decode(self)

    def draft(self) -> Draft:
        """The strategy's guess at what follows, as a trie; asked again only after a verdict."""
        if self._draft is None:
            with failing_alone(self):
                draft = self._next_draft()
                check_token_ids(draft.tokens, self.vocabulary_size)
                self._draft = draft.merged()
        return self._draft or NO_DRAFT

    @property
    def drafts(self) -> bool:
        """Whether it has a strategy that has not given up."""
        return self._strategy is not None

    @property
    def proposed(self) -> int:
        """Nodes of the draft that is asked for and not verified yet."""
        return len(self._draft.tokens) if self._draft else 0

    def _next_draft(self) -> Draft:
        if self._strategy is None:
            return NO_DRAFT
        is_new, self._is_new, self._was_asked = self._is_new, False, True
        try:
            # One that begins late finds what was said before among the tokens.
            if is_new or self._verdict is None:
                proposed = next(self._strategy)
            else:
                proposed = self._strategy.send(self._verdict)
        except StopIteration:  # nothing more to propose: decode plainly
            self._strategy = None
            return NO_DRAFT
        if isinstance(proposed, Fork):
            raise TypeError("this request brings no prompts for branches")
        return proposed

    def tell(self, verdict: Verdict) -> None:
        """Keep the verdict on the draft for the strategy's next turn.

        A strategy that was not asked since the last one hears of both as of one step without draft.
        """
        if self._verdict is not None and not self._was_asked:
            tokens = self._verdict.tokens + verdict.tokens
            verdict = Verdict(tokens, 0, choices=verdict.choices[:1])
        self._draft, self._verdict, self._was_asked = None, verdict, False

    # --- growing ---

    def row(self, path: list[int], eos: tuple[int, ...]) -> Row:
        """What the choice after the draft tokens ``path`` depends on, besides the logits."""
        answer = [*self.tokens[self.num_prompt :], *path]
        is_too_short = len(answer) < self.request.stopping.min_tokens
        return Row(
            sampling=self.request.sampling,
            seed=self._seed,
            position=self.num_prompt + len(answer),
            prompt=self.request.prompt,
            answer=answer,
            banned=tuple(self._ending(eos)) if is_too_short else (),
        )

    def extend(self, tokens: list[int], eos: tuple[int, ...]) -> int:
        """Commit tokens of the answer up to where it ends; returns how many."""
        before = len(self.tokens)
        for token in tokens:
            self.tokens.append(token)
            self.finish_reason = self._reason_to_stop(token, eos)
            if self.is_finished:
                break
        self.output.text = self._take_text()
        return len(self.tokens) - before

    def write(self, tokens: Iterable[int], text: str) -> None:
        """Commit text of the answer that branches wrote, up to where the answer ends."""
        before = len(self.tokens)
        self.tokens += tokens
        self.output.tokens += tuple(self.tokens[before:])
        if self._text is not None:
            self._text.write(text)
            if self._text.stopped:
                self.end("stop")
        if not self.is_finished and self.num_remaining <= 0:
            self.end("length")
        self.output.text += self._take_text()

    def _reason_to_stop(self, token: int, eos: tuple[int, ...]) -> FinishReason | None:
        stopping = self.request.stopping
        may_stop = self.num_answer > stopping.min_tokens
        if token in self._ending(eos) and may_stop:
            return "stop"
        if self._text is not None:
            self._text.push(token, may_stop=may_stop)
            if self._text.stopped:
                return "stop"
        return "length" if self.num_remaining <= 0 else None

    def _take_text(self) -> str:
        if self._text is None:
            return ""
        if self.is_finished:
            self._text.flush()
        return self._text.take()

    def _ending(self, eos: tuple[int, ...]) -> set[int]:
        stopping = self.request.stopping
        return {*stopping.stop_token_ids, *(() if stopping.ignore_eos else eos)}

    # --- log-probabilities ---

    def score(self, logits: Tensor, eos: tuple[int, ...]) -> None:
        """Report the log-probabilities of the last ``len(logits)`` tokens, but not of an ending."""
        tokens = self.tokens[len(self.tokens) - len(logits) :]
        if self.finish_reason == "stop" and tokens[-1] in self._ending(eos):
            tokens = tokens[:-1]
        top = self.request.logprobs or 0
        self.output.logprobs = tuple(log_probabilities(logits[: len(tokens)], tokens, top))

    def score_prompt(self, logits: Tensor) -> None:
        """Take the logits after ``tokens[computed:]`` to score the prompt tokens that follow."""
        if self._prompt_scores is None:
            return
        followers = self.request.prompt[self.computed + 1 :][: len(logits)]
        top = self.request.prompt_logprobs or 0
        self._prompt_scores += log_probabilities(logits[: len(followers)], followers, top)
        if len(self._prompt_scores) == self.num_prompt - 1:
            self.output.prompt_logprobs = tuple(self._prompt_scores)
            self._prompt_scores = None

    # --- ending ---

    def take_output(self) -> Output:
        """The news since the last call."""
        news, self.output = self.output, Output(request_id=self.request.id, index=self.index)
        news.finish_reason = self.finish_reason
        return news

    def end(self, reason: FinishReason) -> None:
        """Stop here."""
        self.finish_reason = reason

    def fail(self, error: Exception) -> None:
        """Stop here because something in this request went wrong."""
        logger.error("request %s failed", self.request.id, exc_info=error)
        self.output.error = f"{type(error).__name__}: {error}"
        self.end("error")

    def preempt(self) -> None:
        """Give back the blocks; what was computed will be computed again."""
        self.table.release()
        self.computed = 0
        if self._prompt_scores is not None:
            self._prompt_scores = []

    def close(self) -> None:
        """Give back everything."""
        self.table.release()
        strategy, self._strategy = self._strategy, None
        if strategy is not None:
            with failing_alone(self):
                strategy.close()


def check_token_ids(tokens: Iterable[int], vocabulary_size: int) -> None:
    """Check ids before they index anything.

    Raises:
        ValueError: one is not in the vocabulary.
    """
    ids = list(tokens)
    if ids and not 0 <= min(ids) <= max(ids) < vocabulary_size:
        raise ValueError(f"token ids must be in 0..{vocabulary_size - 1}")


@contextmanager
def failing_alone(seq: Sequence) -> Iterator[None]:
    """An error inside one sequence ends that sequence and nothing else."""
    try:
        yield
    except Exception as error:
        seq.fail(error)
