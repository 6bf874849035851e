"""The request bodies: what OpenAI's fields and our extensions may hold.

A field is honoured, or cannot change an answer and is accepted, or is refused by name.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from decoding.request import OptionValue
from server.documents import Document
from server.strict_body import StrictBody, Unsupported, refusal

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 4096  # of all stop strings together
MAX_BIASES = 2048
MAX_PARTS = 1024
MAX_LOGPROBS = 20
MAX_DEADLINE = 86_400.0  # seconds

_NO_TOOLS = "this server does not call tools"
_NO_MEDIA = "this server answers with text only"

_UNSUPPORTED: dict[str, Unsupported] = {
    "response_format": Unsupported("only plain text is produced", ({"type": "text"},)),
}
_CHAT_UNSUPPORTED: dict[str, Unsupported] = _UNSUPPORTED | {
    "audio": Unsupported(_NO_MEDIA),
    "function_call": Unsupported(_NO_TOOLS, ("none", "auto")),
    "functions": Unsupported(_NO_TOOLS, ([],)),
    "modalities": Unsupported(_NO_MEDIA, (["text"],)),
    "parallel_tool_calls": Unsupported(_NO_TOOLS, (True, False)),
    "reasoning_effort": Unsupported("the model has no reasoning setting"),
    "tool_choice": Unsupported(_NO_TOOLS, ("none", "auto")),
    "tools": Unsupported(_NO_TOOLS, ([],)),
    "verbosity": Unsupported("the model has no verbosity setting"),
    "web_search_options": Unsupported("this server does not search the web"),
    "chat_template": Unsupported("the template of the model is used"),
    "chat_template_kwargs": Unsupported("the template of the model is used", ({},)),
}
_COMPLETION_UNSUPPORTED: dict[str, Unsupported] = _UNSUPPORTED | {
    "suffix": Unsupported("this server does not fill in the middle", ("",)),
}


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _check_stops(stops: list[str]) -> list[str]:
    if len(stops) > MAX_STOPS:
        raise refusal(f"'stop' takes at most {MAX_STOPS} strings, not {len(stops)}")
    if "" in stops:
        raise refusal("'stop' must not hold an empty string")
    if sum(map(len, stops)) > MAX_STOP_CHARACTERS:
        raise refusal(f"'stop' takes at most {MAX_STOP_CHARACTERS} characters altogether")
    return stops


def _check_bias_count(value: object) -> object:
    if isinstance(value, dict) and len(value) > MAX_BIASES:
        raise refusal(f"'logit_bias' takes at most {MAX_BIASES} tokens, not {len(value)}")
    return value


def _check_option(value: object) -> OptionValue:
    if isinstance(value, bool | int | float | str):
        return value
    raise refusal("Options of a strategy are booleans, numbers or strings")


def _drop_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {name: entry for name, entry in value.items() if entry is not None}
    return value


def _false_is_none(value: object) -> object:
    return None if value is False else value


def _joined_text(value: object) -> object:
    """Text parts are one text: nothing is put between them."""
    if not isinstance(value, list):
        return value
    if not 0 < len(value) <= MAX_PARTS:
        raise refusal(f"A list of content parts holds 1 to {MAX_PARTS} of them, not {len(value)}")
    return "".join(_text_of_part(part, number) for number, part in enumerate(value))


def _text_of_part(part: object, number: int) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        raise refusal("Only text parts are supported: {'type': 'text', 'text': …}", f"[{number}]")
    if part.keys() != {"type", "text"} or not isinstance(part["text"], str):
        raise refusal("A text part holds 'type' and a string 'text'", f"[{number}].text")
    return part["text"]


Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Content = Annotated[str, BeforeValidator(_joined_text)]
Options = Annotated[
    dict[str, Annotated[OptionValue, BeforeValidator(_check_option)]],
    Field(max_length=32),
    BeforeValidator(_drop_nulls),
]


class StreamOptions(StrictBody):
    """How a stream is sent."""

    include_usage: bool = False
    include_obfuscation: bool = False  # padding against observers, which we never send


class Prediction(StrictBody):
    """What the client expects the answer to be, for the most part."""

    type: Literal["content"]
    content: Content


class Generation(StrictBody):
    """What chat and text completions have in common."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1)] = 1
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    stop: Annotated[
        list[str], Field(fail_fast=True), BeforeValidator(_as_list), AfterValidator(_check_stops)
    ] = Field(default_factory=list)
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: Annotated[
        dict[str, Annotated[float, Field(ge=-100, le=100)]], BeforeValidator(_check_bias_count)
    ] = Field(default_factory=dict)
    seed: Seed | None = None
    prediction: Prediction | None = None

    # Extensions that other engines take at top level, too
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    # Smaller penalties would take logits out of the range of float32
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    min_tokens: Annotated[int, Field(ge=0)] = 0
    ignore_eos: bool = False
    stop_token_ids: Annotated[list[TokenId], Field(max_length=128, fail_fast=True)] = Field(
        default_factory=list
    )
    cache_salt: Annotated[str, Field(max_length=256)] = ""
    decoding: Options = Field(default_factory=dict)
    documents: Annotated[list[Document], Field(fail_fast=True)] = Field(default_factory=list)
    documents_in_prompt: bool = True
    deadline: Annotated[float, Field(gt=0, le=MAX_DEADLINE)] | None = None

    # Accepted, because they cannot change an answer
    user: str = ""
    metadata: dict[str, str] = Field(default_factory=dict)
    store: bool = False
    service_tier: str = ""
    safety_identifier: str = ""
    prompt_cache_key: str = ""
    prompt_cache_retention: str = ""

    @property
    def answer_limit(self) -> int | None:
        """The most tokens an answer may have, or None for what the endpoint defaults to."""
        return self.max_tokens

    @property
    def prompt_documents(self) -> list[Document]:
        """The documents that the model reads."""
        return self.documents if self.documents_in_prompt else []

    @property
    def num_page_characters(self) -> int:
        """How long the documents in the prompt are."""
        return sum(document.num_characters for document in self.prompt_documents)

    @property
    def num_characters(self) -> int:
        """How long the prompt is, more or less."""
        raise NotImplementedError

    @property
    def hidden_documents(self) -> list[Document]:
        """The documents that the model does not read; what it reads is found in the prompt."""
        return [] if self.documents_in_prompt else self.documents

    @property
    def predicted_text(self) -> str:
        """What the answer is expected to be; empty where nothing is."""
        return "" if self.prediction is None else self.prediction.content

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that holds the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @model_validator(mode="after")
    def _check_stream_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise refusal("'stream_options' is only for 'stream': true", "stream_options")
        return self

    @model_validator(mode="after")
    def _check_min_tokens(self) -> Self:
        if self.answer_limit is not None and self.min_tokens > self.answer_limit:
            message = f"'min_tokens' {self.min_tokens} is over the limit of {self.answer_limit}"
            raise refusal(message, "min_tokens")
        return self


class Message(StrictBody):
    """One turn of a conversation."""

    unsupported: ClassVar[Mapping[str, Unsupported]] = {
        "annotations": Unsupported(_NO_MEDIA, ([],)),
        "audio": Unsupported(_NO_MEDIA),
        "function_call": Unsupported(_NO_TOOLS),
        "refusal": Unsupported("send what the assistant said as content", ("",)),
        "tool_call_id": Unsupported(_NO_TOOLS),
        "tool_calls": Unsupported(_NO_TOOLS, ([],)),
    }

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: Annotated[str, Field(max_length=64, pattern=r"^[^\s<|\\/>]+$")] | None = None


class ChatBody(Generation):
    """The body of ``POST /v1/chat/completions``."""

    unsupported: ClassVar[Mapping[str, Unsupported]] = _CHAT_UNSUPPORTED

    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] = 0

    @property
    def num_characters(self) -> int:
        """How long the prompt is, more or less."""
        return sum(len(message.content) for message in self.messages) + self.num_page_characters

    @property
    def question(self) -> str:
        """The last thing the user wrote."""
        asked = (message.content for message in reversed(self.messages) if message.role == "user")
        return next(asked, "")

    @property
    def wants_logprobs(self) -> bool:
        """Whether chosen tokens are to be scored."""
        return self.logprobs

    @property
    def has_earlier_turns(self) -> bool:
        """Whether the conversation holds an answer already."""
        return any(message.role == "assistant" for message in self.messages)

    @property
    def answer_limit(self) -> int | None:
        """What either name of the field says, or None for the rest of the context."""
        return self.max_completion_tokens or self.max_tokens

    @model_validator(mode="after")
    def _check_max_tokens(self) -> Self:
        if self.max_tokens == 0:
            raise refusal("'max_tokens' must be at least 1", "max_tokens")
        given = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(given) > 1:
            message = "'max_tokens' and 'max_completion_tokens' differ: send only the latter"
            raise refusal(message, "max_tokens")
        return self

    @model_validator(mode="after")
    def _check_logprobs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise refusal("'top_logprobs' needs 'logprobs': true", "top_logprobs")
        return self


PromptTokens = Annotated[list[TokenId], Field(fail_fast=True)]


class CompletionBody(Generation):
    """The body of ``POST /v1/completions``."""

    unsupported: ClassVar[Mapping[str, Unsupported]] = _COMPLETION_UNSUPPORTED

    prompt: object
    echo: bool = False
    logprobs: Annotated[
        Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None, BeforeValidator(_false_is_none)
    ] = None
    best_of: int | None = None

    @property
    def num_characters(self) -> int:
        """How long the prompts are, more or less: of token ids and lists, what they hold."""
        prompts = self.prompt if isinstance(self.prompt, list) else [self.prompt]
        lengths = (len(each) if isinstance(each, str | list) else 1 for each in prompts)
        return sum(lengths) + self.num_page_characters

    @property
    def wants_logprobs(self) -> bool:
        """Whether chosen tokens are to be scored."""
        return self.logprobs is not None

    @property
    def answer_limit(self) -> int:
        """OpenAI's default for text completions is 16."""
        return 16 if self.max_tokens is None else self.max_tokens

    @model_validator(mode="after")
    def _check_max_tokens(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise refusal("'max_tokens' 0 needs 'echo': true", "max_tokens")
        return self

    @model_validator(mode="after")
    def _check_best_of(self) -> Self:
        if self.best_of not in (None, self.n):
            raise refusal("'best_of' is not supported: it must equal 'n'", "best_of")
        return self


class TokenizeBody(StrictBody):
    """The body of ``POST /tokenize``: a prompt or messages."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)] | None = None

    @model_validator(mode="after")
    def _check_one_is_given(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise refusal("Send either 'prompt' or 'messages'", "prompt")
        return self


class DetokenizeBody(StrictBody):
    """The body of ``POST /detokenize``."""

    model: str | None = None
    tokens: PromptTokens
