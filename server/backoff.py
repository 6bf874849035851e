"""When a worker may be started again: at once, and ever later while starts fail."""

_DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0)  # seconds before a start, by how many have failed in a row
_LAST_DELAY = 60.0  # so that no minute has more than five of them


class Backoff:
    """Counts the starts in a row that came to nothing."""

    def __init__(self) -> None:
        self._failures = 0

    def delay(self, *, was_of_use: bool) -> float:
        """Seconds to wait before the next start; ``was_of_use`` is the worker that has ended."""
        if was_of_use:
            self._failures = 0
            return 0.0
        self._failures += 1
        return _DELAYS[self._failures - 1] if self._failures <= len(_DELAYS) else _LAST_DELAY
