"""Whether the model's chat template comes to an end: asked once, before anybody is served."""

import signal
from types import FrameType
from typing import TYPE_CHECKING

from jinja2 import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 5.0  # for what takes a few milliseconds
MOST_CHARACTERS = 1_000_000  # around two of a user's
_MESSAGE = {"role": "user", "content": "Hi"}


def check_template(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Write out one short message. For the main thread: a signal ends what takes too long.

    A template that refuses it is fine; it may want others.

    Raises:
        ValueError: it takes too long, or writes too much.
    """
    if not tokenizer.chat_template:
        return
    previous = signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        written = tokenizer.apply_chat_template([_MESSAGE], tokenize=False)
    except (TimeoutError, MemoryError, OverflowError):
        raise ValueError(f"its chat template does not end within {SECONDS:g} seconds") from None
    except (TemplateError, TypeError, ValueError):
        return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    if len(written) > MOST_CHARACTERS:
        raise ValueError(f"its chat template makes {len(written)} characters of two")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise TimeoutError
