"""What requests teach an engine about guessing, for those that come after them. No torch."""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from decoding.confidence import Confidence
from decoding.phrases import Phrases
from decoding.recycling import Successors
from decoding.trial import Trial

_PRIOR_WEIGHT = 20.0  # guesses that a prior written down here counts for
_DECAY = 0.999  # about the last thousand guesses of a kind matter


class Experience:
    """Shared by all requests of an engine: it changes how much is guessed, never an answer.

    ``successors`` are the likeliest tokens behind every token, ``phrases`` what answers said behind
    the same words, ``confidence`` says how often each kind of guess was right, ``trials`` which
    preparations pay, by name. ``start`` is what the successors begin with.
    """

    def __init__(self, vocabulary_size: int, start: NDArray[np.int32] | None = None) -> None:
        self.successors = Successors(vocabulary_size, start)
        self.phrases = Phrases()
        self.trials: defaultdict[str, Trial] = defaultdict(Trial)
        self.confidence = Confidence(prior_weight=_PRIOR_WEIGHT, decay=_DECAY)
