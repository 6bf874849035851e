"""Token ids to text while they arrive: whole characters only, stop strings found and cut."""

import re
from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

_CONTEXT = 6  # prompt tokens a decoder may look back at to place a space
_UNFINISHED = "\ufffd"  # what the bytes of an unfinished character decode to
# Where a sentence ends: in most scripts only what follows tells a full stop from other points.
_SENTENCE_END = re.compile(
    r"""[.!?…]["'”’)\]]*(?=\s+["'“‘(\[]*[A-ZÀ-ÞА-Я0-9])|[。！？][」』”）]*"""
)
# What follows one is no part of it, and it may turn out that it is one.
_AFTER_SENTENCE = re.compile(r"""[.!?…]["'”’)\]]*(\s+["'“‘(\[]*)$""")


class TextStream:
    """The text of one answer.

    Holds back unfinished characters and any ending that could be the start of a stop string; the
    earliest stop string wins and is never shown. After so many ``sentences`` (0: any number) it
    stops as well.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        stop: Sequence[str] = (),
        sentences: int = 0,
    ) -> None:
        self._tokenizer = tokenizer
        self._decoder = self._decoder_after(prompt[-_CONTEXT:])
        self._stop = tuple(stop)
        self._sentences_left = sentences or None
        self._sentence = ""  # the one that is being written
        self._unfinished: list[int] = []  # tokens whose characters are not complete yet
        self._held = ""
        self._ready = ""
        self.stopped = False

    def push(self, token: int, *, may_stop: bool = True) -> None:
        """Add a token; sets ``stopped`` when it completes a stop string."""
        self._unfinished.append(token)
        text = self._decode(token)
        if text is not None:
            self._unfinished.clear()
            self._add(text, may_stop)

    def write(self, text: str) -> None:
        """Add text that comes without tokens."""
        if not self.stopped:
            self._add(text, may_stop=True)

    def flush(self) -> None:
        """The answer is over: nothing is held back any longer."""
        if self._unfinished and not self.stopped:
            self._add(self._tokenizer.decode(self._unfinished), may_stop=True)
        self._ready += self._held
        self._held = ""

    def take(self) -> str:
        """The text that became safe to show since the last call."""
        text, self._ready = self._ready, ""
        return text

    def _decode(self, token: int) -> str | None:
        """The whole characters that ``token`` completes, if any."""
        try:
            text: str | None = self._decoder.step(self._tokenizer, token)
        except Exception:  # bytes that are no character changed how those before them decode
            text = self._tokenizer.decode(self._unfinished)
            self._decoder = self._decoder_after(self._unfinished)
        return text

    def _decoder_after(self, tokens: Sequence[int]) -> DecodeStream:
        """A decoder that goes on from ``tokens``, if they end with a whole character.

        It would show them again otherwise.
        """
        ends_whole = not self._tokenizer.decode(tokens).endswith(_UNFINISHED)
        return DecodeStream(ids=list(tokens) if ends_whole else [], skip_special_tokens=True)

    def _add(self, text: str, may_stop: bool) -> None:
        decided = len(self._held)
        self._held += text
        found = self._stops_ending_after(decided) + self._last_sentence_end(text)
        if may_stop and found:
            self._held = self._held[: min(found)]
            self.stopped = True
            return
        safe = len(self._held) - self._undecided()
        self._ready += self._held[:safe]
        self._held = self._held[safe:]

    def _stops_ending_after(self, decided: int) -> list[int]:
        """Where stop strings begin that end past the first ``decided`` held characters."""
        starts = (self._held.find(s, max(0, decided - len(s) + 1)) for s in self._stop)
        return [start for start in starts if start >= 0]

    def _last_sentence_end(self, text: str) -> list[int]:
        """Where in the held text the last sentence ends, if ``text`` shows that it does."""
        if self._sentences_left is None:
            return []
        self._sentence += text
        while end := _SENTENCE_END.search(self._sentence):
            self._sentence = self._sentence[end.end() :]
            self._sentences_left -= 1
            if self._sentences_left <= 0:
                return [max(0, len(self._held) - len(self._sentence))]
        return []

    def _undecided(self) -> int:
        """Length of the longest ending that may not be part of the answer."""
        return max(self._undecided_stop(), self._undecided_gap())

    def _undecided_stop(self) -> int:
        """Length of the longest ending that begins a stop string."""
        longest = max((len(s) for s in self._stop), default=1) - 1
        endings = range(min(longest, len(self._held)), 0, -1)
        return next((n for n in endings if self._begins_stop(self._held[-n:])), 0)

    def _undecided_gap(self) -> int:
        """Length of what is behind the last sentence, if that is its end."""
        gap = _AFTER_SENTENCE.search(self._sentence) if self._sentences_left == 1 else None
        return len(gap[1]) if gap else 0

    def _begins_stop(self, ending: str) -> bool:
        return any(s.startswith(ending) for s in self._stop)
