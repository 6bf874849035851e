"""What is asked of the engine and what it answers: plain values, no tensors, ready for a socket."""

from typing import Literal

from msgspec import Struct

FinishReason = Literal["stop", "length", "abort", "error"]
OptionValue = bool | int | float | str
Source = Literal["prediction", "history", "document"]


class Sampling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the next token is chosen from the logits.

    ``temperature`` 0 takes the most likely token; ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 are off.
    ``repetition_penalty`` looks at prompt and answer, the other two penalties at the answer only.
    The token at a position depends on the logits, these fields and the position: nothing else.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    seed: int = 0


class Stopping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an answer ends. The model's own end-of-sequence ids count unless ``ignore_eos``.

    ``sentences`` is how many it may have; 0 means any number.
    """

    max_tokens: int
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    sentences: int = 0
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False


class Reference(Struct, frozen=True, forbid_unknown_fields=True):
    """Known text that an answer may repeat.

    ``likeness`` is how likely the answer is to begin as this text does, 0..1: 0 for a document,
    which may be quoted from anywhere, 1 for a prediction.
    """

    source: Source
    tokens: tuple[int, ...]
    likeness: float = 0.0


Piece = tuple[int, ...] | str


class Decoder(Struct, frozen=True, forbid_unknown_fields=True):
    """A strategy by name, with its options."""

    strategy: str
    options: dict[str, OptionValue] = {}


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One prompt, to be answered ``n`` times.

    ``logprobs`` is how many alternatives to report beside each chosen token (None: no
    log-probabilities at all); ``prompt_logprobs`` asks the same for the tokens of the prompt.
    ``references`` are for strategies that copy; no answer depends on them.
    ``explains_drafts`` asks for an ``Explanation`` of every step.
    ``stages`` are the prompts of a strategy that forks, by name: token ids, and between them the
    names of texts to be filled in. Its branches decode by ``fallback``, which answers the whole
    request if the strategy cannot.
    Cache blocks are shared only between requests of equal ``cache_salt``; where several wait, the
    ``tenant`` with the fewest in progress is first.
    """

    id: str
    prompt: tuple[int, ...]
    stopping: Stopping
    sampling: Sampling = Sampling()
    n: int = 1
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    strategy: str = "autoregressive"
    options: dict[str, OptionValue] = {}
    references: tuple[Reference, ...] = ()
    explains_drafts: bool = False
    stages: dict[str, tuple[Piece, ...]] = {}
    fallback: Decoder = Decoder("autoregressive")
    cache_salt: str = ""
    tenant: str = ""


class TokenLogprob(Struct, frozen=True):
    """The model's own log-probability of ``token`` (before temperature, filters and penalties).

    ``top`` holds the most likely tokens and their log-probabilities, most likely first.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class SourceCounts(Struct):
    """What guesses from one source came to."""

    drafts: int = 0  # forwards that verified guesses from it
    drafted: int = 0  # draft nodes verified
    accepted: int = 0  # of them kept

    def add(self, other: "SourceCounts") -> None:
        """Take over what came later."""
        self.drafts += other.drafts
        self.drafted += other.drafted
        self.accepted += other.accepted


class Decision(Struct, frozen=True, kw_only=True):
    """What the draft budget decided for sequences it weighed together, and on what grounds."""

    sequences: int
    context_tokens: int  # of all of them
    proposed: int  # draft nodes, by their strategies
    granted: int  # of them to be verified
    expected_tokens: float  # of the forward, one a sequence included
    plain_seconds: float  # predicted for the forward without drafts
    seconds: float  # predicted with what was granted
    least_chance: float  # what a node needs for being proposed next time


class Explanation(Struct, frozen=True, kw_only=True):
    """How much a sequence drafted in a step, and why: of requests that ask for it."""

    proposed: int
    granted: int
    accepted: int
    decision: Decision | None  # None: nobody drafts, drafting rests, or there is no price list


class BranchCounts(Struct):
    """What the branches of a request came to."""

    branches: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of them, found in the prefix cache
    hidden_tokens: int = 0  # written, but not shown as such

    def add(self, other: "BranchCounts") -> None:
        """Take over what came later."""
        self.branches += other.branches
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.hidden_tokens += other.hidden_tokens


class Output(Struct, kw_only=True):
    """What one step added to one choice of one request.

    ``text`` is safe to show: an unfinished character or a possible start of a stop string is held
    back until it is decided. Counts are of this step alone, so a receiver adds them up.
    """

    request_id: str
    index: int = 0
    tokens: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None  # once; no entry for the first token
    steps: int = 0  # forward passes that produced ``tokens``: 0 or 1, more after a fork
    drafted: int = 0  # draft nodes verified
    accepted: int = 0  # draft nodes whose token was kept
    accepted_runs: tuple[int, ...] = ()  # the same by draft: how deep each was right
    sources: dict[str, SourceCounts] = {}  # the same by where the guesses are from
    explanation: Explanation | None = None
    branches: BranchCounts | None = None
    fallback: str | None = None  # once: why the request's fallback answers
    cached_tokens: int | None = None  # once: prompt tokens found in the prefix cache
    queue_seconds: float | None = None  # once: from arrival to the first computed token
    finish_reason: FinishReason | None = None
    error: str | None = None
