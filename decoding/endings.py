"""Where an answer ends: stop strings and the number of its sentences. Knows no tokens."""

import re
from collections.abc import Sequence

# Where a sentence ends: in most scripts only what follows tells a full stop from other points.
_SENTENCE_END = re.compile(
    r"""[.!?…]["'”’)\]]*(?=\s+["'“‘(\[]*[A-ZÀ-ÞА-Я0-9])|[。！？][」』”）]*"""
)
# What follows one is no part of it, and it may turn out that it is one.
_AFTER_SENTENCE = re.compile(r"""[.!?…]["'”’)\]]*(\s+["'“‘(\[]*)$""")


class Ending:
    """Text that is shown as far as it is certain to be part of the answer.

    Holds back any ending that could be the start of a stop string; the earliest stop string wins
    and is never shown. After so many ``sentences`` (0: any number) the answer ends as well.
    """

    def __init__(self, stop: Sequence[str] = (), sentences: int = 0) -> None:
        self._stop = tuple(stop)
        self._sentences_left = sentences or None
        self._sentence = ""  # the one that is being written
        self._held = ""
        self._ready = ""
        self.stopped = False

    def add(self, text: str, *, may_stop: bool = True) -> None:
        """Add text; sets ``stopped`` when it completes a stop string or the last sentence."""
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

    def flush(self) -> None:
        """The answer is over: nothing is held back any longer."""
        self._ready += self._held
        self._held = ""

    def take(self) -> str:
        """The text that became safe to show since the last call."""
        text, self._ready = self._ready, ""
        return text

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
