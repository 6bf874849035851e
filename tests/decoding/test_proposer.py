"""Who is asked for drafts, and how often."""

from tiny_engine import Client, Decode, MakeEngine, asking

from decoding.draft import Draft, Strategy
from decoding.sequence import Sequence

TOKENS = 60
CROWD = 8


class Asked:
    """A strategy that counts how often it is asked."""

    def __init__(self, draft: Draft) -> None:
        self.times = 0
        self._draft = draft

    def decode(self, seq: Sequence) -> Strategy:
        while True:
            self.times += 1
            yield self._draft


def silent(seq: Sequence) -> Strategy:
    """One that never has anything to propose."""
    while True:
        yield Draft()


def times_asked(make_engine: MakeEngine, draft: Draft, others: int) -> int:
    """How often one is asked for a draft while it says 60 tokens, beside so many others."""
    client, asked = Client(make_engine()), Asked(draft)
    decoders: list[Decode] = [asked.decode, *[silent] * others]
    for decode in decoders:
        client.ask(asking(max_tokens=TOKENS), decode)
    client.finish()
    return asked.times


def test_one_that_proposes_nothing_is_asked_less_and_less_among_many(
    make_engine: MakeEngine,
) -> None:
    assert times_asked(make_engine, Draft(), others=0) == TOKENS
    assert times_asked(make_engine, Draft(), others=CROWD - 2) == TOKENS
    # After pauses of 2 and then 4 steps, half as many as there are sequences.
    assert times_asked(make_engine, Draft(), others=CROWD - 1) < TOKENS / 3


def test_one_that_is_granted_drafts_is_asked_every_time(make_engine: MakeEngine) -> None:
    wrong = Draft.chain([0])
    assert times_asked(make_engine, wrong, others=CROWD - 1) > TOKENS * 0.9
