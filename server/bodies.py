"""The bodies of answers, as OpenAI's document defines them, and our `decoding` block."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from decoding.request import BranchCounts
from server.history import Outcome

FinishReason = Literal["stop", "length"]


class PromptTokensDetails(Struct):
    """Of the prompt's tokens."""

    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionTokensDetails(Struct):
    """Of the answer's tokens."""

    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    reasoning_tokens: int = 0
    audio_tokens: int = 0


class Usage(Struct):
    """What the request is billed for: a prompt counts once, whatever `n` is."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class SourceUse(Struct):
    """What guesses from one source came to."""

    steps: int
    drafted_tokens: int
    accepted_tokens: int


class Batch(Struct):
    """The sequences that the draft budget decided about together, and its grounds."""

    sequences: int
    context_tokens: int
    proposed: int
    granted: int
    expected_tokens: float
    plain_forward_ms: float
    forward_ms: float
    least_chance: float


class BudgetStep(Struct):
    """What became of one choice's draft in one step; no batch: nothing was decided about it."""

    choice: int
    proposed: int
    granted: int
    accepted: int
    batch: Batch | None


class Branches(Struct):
    """What the branches of an answer took: how many, and how much of what they read was shared.

    ``hidden_tokens`` were written on the way, but are not in the answer as such.
    """

    count: int
    prompt_tokens: int
    shared_prompt_tokens: int
    hidden_tokens: int

    @classmethod
    def of(cls, counts: BranchCounts) -> "Branches":
        """The same in the words of an answer."""
        return cls(
            count=counts.branches,
            prompt_tokens=counts.prompt_tokens,
            shared_prompt_tokens=counts.cached_tokens,
            hidden_tokens=counts.hidden_tokens,
        )


class Fallback(Struct):
    """Answers that the strategy could not give: how many, by which other one, and why."""

    choices: int
    strategy: str
    reason: str


class Decoding(Struct):
    """How the answer was decoded.

    ``figures`` are a strategy's own, ``budget`` is there for requests that ask for it, ``branches``
    and ``fallback`` where there were any.
    """

    strategy: str
    reason: str
    history: Outcome
    lossless: bool
    bit_exact: bool
    model_steps: int
    steps_saved: int
    drafted_tokens: int
    accepted_tokens: int
    sources: dict[str, SourceUse]
    time_to_first_token_ms: float | None
    tokens_per_second: float | None
    figures: dict[str, float] | UnsetType = UNSET
    branches: Branches | UnsetType = UNSET
    fallback: Fallback | UnsetType = UNSET
    budget: list[BudgetStep] | UnsetType = UNSET


class TopLogprob(Struct):
    """A token that could have been chosen."""

    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(Struct):
    """A chosen token and its alternatives."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct):
    """Log-probabilities of a chat answer."""

    content: list[ChatLogprob]
    refusal: None = None


class CompletionLogprobs(Struct):
    """Log-probabilities of a text completion: parallel lists, one entry a token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class ChatMessage(Struct):
    """A whole chat answer."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class ChatDelta(Struct, omit_defaults=True):
    """What a chunk adds to a chat answer; the last one adds nothing."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChoice(Struct):
    """One answer of a chat completion."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatChunkChoice(Struct):
    """One answer's share of a chunk."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None


class CompletionChoice(Struct):
    """One answer of a text completion, or its share of a chunk."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None


AnswerChoice = ChatChoice | CompletionChoice
ChunkChoice = ChatChunkChoice | CompletionChoice


class Answer(Struct, kw_only=True):
    """A completion, whole or a chunk of it. Usage is a key of chunks only if it was asked for."""

    id: str
    object: Literal["chat.completion", "chat.completion.chunk", "text_completion"]
    created: int
    model: str
    choices: list[AnswerChoice] | list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    decoding: Decoding | UnsetType = UNSET
