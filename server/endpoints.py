"""The two generating endpoints' ways to say the same: what a step added → choices of a body."""

from typing import Protocol

from decoding.request import Output, TokenLogprob
from server.bodies import (
    AnswerChoice,
    ChatChoice,
    ChatChunkChoice,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    ChunkChoice,
    CompletionChoice,
    CompletionLogprobs,
)
from server.jobs import Job
from server.logprobs import CompletionLogprobsWriter, chat_logprobs, joined
from server.token_text import TokenTexts


class Writer(Protocol):
    """Writes one choice, as a whole or chunk by chunk."""

    def chunks(self, output: Output) -> list[ChunkChoice]:
        """What a stream says of this output; nothing while its text is held back."""

    def whole(self) -> AnswerChoice:
        """The choice after its last output."""

    def add(self, output: Output) -> None:
        """Keep an output for ``whole``."""


class ChatWriter:
    """One choice of a chat completion."""

    def __init__(self, job: Job, index: int, texts: TokenTexts) -> None:
        self._index = index
        self._texts = texts
        self._has_logprobs = job.requests[0].logprobs is not None
        self._is_new = True
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._finish_reason = ""

    def chunks(self, output: Output) -> list[ChunkChoice]:
        """The role once, then text, then the finish reason beside an empty delta."""
        choices: list[ChunkChoice] = []
        if self._is_new:
            self._is_new = False
            choices.append(ChatChunkChoice(self._index, ChatDelta(role="assistant", content="")))
        logprobs = self._shaped(output.logprobs) if output.logprobs else None
        if output.text or logprobs:
            delta = ChatDelta(content=output.text)
            choices.append(ChatChunkChoice(self._index, delta, logprobs))
        if reason := output.finish_reason:
            choices.append(ChatChunkChoice(self._index, ChatDelta(), finish_reason=reason))
        return choices

    def add(self, output: Output) -> None:
        """Keep what the step added."""
        self._text.append(output.text)
        self._logprobs += output.logprobs
        self._finish_reason = output.finish_reason or self._finish_reason

    def whole(self) -> AnswerChoice:
        """The message."""
        message = ChatMessage("".join(self._text))
        logprobs = self._shaped(self._logprobs)
        return ChatChoice(self._index, message, logprobs, self._finish_reason)

    def _shaped(
        self, entries: list[TokenLogprob] | tuple[TokenLogprob, ...]
    ) -> ChatLogprobs | None:
        return chat_logprobs(self._texts, entries) if self._has_logprobs else None


class CompletionWriter:
    """One choice of a text completion, the echoed prompt in front if it was asked for."""

    def __init__(self, job: Job, index: int, texts: TokenTexts, *, echo: bool) -> None:
        self._index = index
        self._prompt = job.prompts[index // job.n]
        self._echo = echo
        self._has_logprobs = job.requests[0].logprobs is not None
        self._logprobs = CompletionLogprobsWriter(texts)
        self._is_new = True
        self._choices: list[CompletionChoice] = []

    def chunks(self, output: Output) -> list[ChunkChoice]:
        """The prompt once if it is echoed, then text, the finish reason with the last of it."""
        return [*self._echoed(output), *self._added(output)]

    def add(self, output: Output) -> None:
        """Keep what the step added."""
        self._choices += [*self._echoed(output), *self._added(output)]

    def whole(self) -> AnswerChoice:
        """Prompt, if echoed, and answer."""
        text = "".join(choice.text for choice in self._choices)
        parts = [choice.logprobs for choice in self._choices if choice.logprobs is not None]
        logprobs = joined(parts) if self._has_logprobs else None
        return CompletionChoice(self._index, text, logprobs, self._choices[-1].finish_reason)

    def _echoed(self, output: Output) -> list[CompletionChoice]:
        if not (self._echo and self._is_new):
            return []
        self._is_new = False
        logprobs = None
        if self._has_logprobs:
            logprobs = self._logprobs.prompt(self._prompt, output.prompt_logprobs or ())
        return [CompletionChoice(self._index, self._prompt.text, logprobs)]

    def _added(self, output: Output) -> list[CompletionChoice]:
        logprobs: CompletionLogprobs | None = None
        if self._has_logprobs and output.logprobs:
            logprobs = self._logprobs.answer(output.logprobs)
        if not (output.text or logprobs or output.finish_reason):
            return []
        return [CompletionChoice(self._index, output.text, logprobs, output.finish_reason)]
