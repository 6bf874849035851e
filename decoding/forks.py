"""All requests of an engine that fork: their branches' news become their own."""

from collections.abc import Iterable

from decoding.forking import Forking
from decoding.request import Output
from decoding.sequence import Sequence, failing_alone


class Forks:
    """All requests of an engine that fork."""

    def __init__(self) -> None:
        self._requests: list[Forking] = []

    @property
    def have_news(self) -> bool:
        """Whether one is over without its end having been told."""
        return any(forking.seq.is_finished for forking in self._requests)

    def begin(self, forking: Forking) -> list[Sequence]:
        """Start one; returns what is to be decoded first."""
        self._requests.append(forking)
        with failing_alone(forking.seq):
            forking.advance(None)
        return self._take_ready()

    def abort(self, request_id: str) -> None:
        """Stop all choices of a request, and their branches."""
        for forking in [each for each in self._requests if each.seq.request.id == request_id]:
            forking.abandon()
            self._requests.remove(forking)

    def take(self, news: Iterable[tuple[Sequence, Output]]) -> tuple[list[Output], list[Sequence]]:
        """What users see of the news of a step, and the sequences that are to be decoded next."""
        outputs: list[Output] = []
        for seq, output in news:
            if seq.asked_by is seq.request:
                outputs.append(output)
            elif forking := self._of(seq):
                with failing_alone(forking.seq):
                    forking.take(seq, output)
        return [*outputs, *self._outputs()], self._take_ready()

    def _of(self, branch: Sequence) -> Forking | None:
        return next((each for each in self._requests if branch in each.branches), None)

    def _outputs(self) -> list[Output]:
        """The news of the requests that have any; those that are over leave."""
        told: list[Output] = []
        for forking in self._requests[:]:
            if forking.seq.is_finished:
                forking.abandon()
                self._requests.remove(forking)
            if (output := forking.step_output()) is not None:
                told.append(output)
        return told

    def _take_ready(self) -> list[Sequence]:
        ready: list[Sequence] = []
        for forking in self._requests[:]:
            ready += forking.ready
            if forking.seq in forking.ready:  # it goes on by itself
                self._requests.remove(forking)
            forking.ready = []
        return ready
