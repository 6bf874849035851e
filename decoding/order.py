"""Texts that are written side by side and shown one after the other."""

from collections.abc import Iterator, Sequence


class InOrder:
    """What branches write, in their order: the first unfinished one as it is written."""

    def __init__(self, leads: Sequence[str]) -> None:
        self._leads = leads
        self._texts = [""] * len(leads)
        self._is_finished = [False] * len(leads)
        self._shown = 0  # the first one that is not shown in full

    @property
    def num_shown(self) -> int:
        """How many have been shown, the last of them perhaps in part."""
        return self._shown + 1

    def begin(self) -> str:
        """What is shown before any branch has written anything."""
        return self._leads[0]

    def add(self, number: int, text: str, *, is_finished: bool = False) -> Iterator[str]:
        """Take over what a branch wrote, and say what is next in the answer; it may be empty."""
        self._texts[number] += text
        self._is_finished[number] |= is_finished
        if number == self._shown:
            yield text
        while self._is_finished[self._shown] and self._shown + 1 < len(self._leads):
            self._shown += 1
            yield self._leads[self._shown] + self._texts[self._shown]
