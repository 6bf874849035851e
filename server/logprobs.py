"""The engine's log-probabilities in the two shapes that OpenAI's endpoints have."""

import codecs
from collections.abc import Sequence

from decoding.request import TokenLogprob
from server.bodies import ChatLogprob, ChatLogprobs, CompletionLogprobs, TopLogprob
from server.prompts import Prompt
from server.token_text import TokenTexts

LOWEST = -9999.0  # stands for minus infinity, which JSON cannot say


def finite(logprob: float) -> float:
    """The log-probability as a number that JSON has; NaN becomes the lowest."""
    return logprob if logprob > LOWEST else LOWEST


def chat_logprobs(texts: TokenTexts, entries: Sequence[TokenLogprob]) -> ChatLogprobs:
    """Chat's shape: one object a token."""
    return ChatLogprobs([_chat_entry(texts, entry) for entry in entries])


def _chat_entry(texts: TokenTexts, entry: TokenLogprob) -> ChatLogprob:
    token = texts.of(entry.token)
    top = [_top(texts, *alternative) for alternative in entry.top]
    return ChatLogprob(token.text, finite(entry.logprob), list(token.bytes), top)


def _top(texts: TokenTexts, token_id: int, logprob: float) -> TopLogprob:
    token = texts.of(token_id)
    return TopLogprob(token.text, finite(logprob), list(token.bytes))


class CompletionLogprobsWriter:
    """Text completion's shape for one choice; offsets count the characters of its text so far."""

    def __init__(self, texts: TokenTexts) -> None:
        self._texts = texts
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._offset = 0

    def prompt(self, prompt: Prompt, entries: Sequence[TokenLogprob]) -> CompletionLogprobs:
        """The echoed prompt's share. Nothing comes before its first token, so that has none."""
        body = CompletionLogprobs([], [], [], [])
        scored: list[TokenLogprob | None] = [None, *entries]
        if self._starts_with_added_space(prompt):
            self._offset = -1
        for number, (token, entry) in enumerate(zip(prompt.tokens, scored, strict=False)):
            is_shown = number >= prompt.num_added
            self._append(body, token, entry, is_shown)
        return body

    def answer(self, entries: Sequence[TokenLogprob]) -> CompletionLogprobs:
        """The share of newly generated tokens. Control tokens are not part of the text."""
        body = CompletionLogprobs([], [], [], [])
        for entry in entries:
            is_shown = not self._texts.of(entry.token).is_special
            self._append(body, entry.token, entry, is_shown)
        return body

    def _starts_with_added_space(self, prompt: Prompt) -> bool:
        """Sentencepiece tokenises `a` as ` a`."""
        first = prompt.tokens[prompt.num_added : prompt.num_added + 1]
        added = bool(first) and self._texts.of(first[0]).text.startswith(" ")
        return added and not prompt.text.startswith(" ")

    def _append(
        self, body: CompletionLogprobs, token: int, entry: TokenLogprob | None, is_shown: bool
    ) -> None:
        shown = self._texts.of(token)
        body.tokens.append(shown.text)
        body.token_logprobs.append(None if entry is None else finite(entry.logprob))
        body.top_logprobs.append(None if entry is None else self._top(entry))
        body.text_offset.append(max(self._offset, 0))
        if is_shown:
            self._offset += len(self._decoder.decode(shown.bytes))

    def _top(self, entry: TokenLogprob) -> dict[str, float]:
        """The alternatives by text, the chosen token among them. Of equal texts the likelier."""
        top: dict[str, float] = {}
        for token, logprob in (*entry.top, (entry.token, entry.logprob)):
            top.setdefault(self._texts.of(token).text, finite(logprob))
        return top


def joined(parts: Sequence[CompletionLogprobs]) -> CompletionLogprobs:
    """The shares of one choice, one after the other."""
    return CompletionLogprobs(
        [token for part in parts for token in part.tokens],
        [logprob for part in parts for logprob in part.token_logprobs],
        [top for part in parts for top in part.top_logprobs],
        [offset for part in parts for offset in part.text_offset],
    )
