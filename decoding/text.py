"""Token ids to text while they arrive: whole characters only, stop strings found and cut."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from decoding.endings import Ending

_CONTEXT = 6  # prompt tokens a decoder may look back at to place a space
_UNFINISHED = "\ufffd"  # what the bytes of an unfinished character decode to


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
        self._ending = Ending(stop, sentences)
        self._unfinished: list[int] = []  # tokens whose characters are not complete yet

    @property
    def stopped(self) -> bool:
        """Whether the answer has come to its end."""
        return self._ending.stopped

    def push(self, token: int, *, may_stop: bool = True) -> None:
        """Add a token; it may complete a stop string."""
        self._unfinished.append(token)
        text = self._decode(token)
        if text is not None:
            self._unfinished.clear()
            self._ending.add(text, may_stop=may_stop)

    def write(self, text: str) -> None:
        """Add text that comes without tokens."""
        if not self.stopped:
            self._ending.add(text)

    def flush(self) -> None:
        """The answer is over: nothing is held back any longer."""
        if self._unfinished and not self.stopped:
            self._ending.add(self._tokenizer.decode(self._unfinished))
        self._ending.flush()

    def take(self) -> str:
        """The text that became safe to show since the last call."""
        return self._ending.take()

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
