"""No request loses more than a few per cent of its speed by the drafts of others."""

import pytest
from tiny_engine import Client, FixedCost, MakeEngine, asking, perfect, prompt_of, silent

from decoding.cost import ROWS
from decoding.patience import SHARE, Account

BY_ROWS = [0.9 + 0.1 * rows for rows in ROWS]  # so much dearer is every drafted row


def test_who_waits_for_nobody_saves_up() -> None:
    account = Account()
    before = account.balance
    for _ in range(10):
        account.add(tokens=1, plain_steps=1.0)
    assert account.balance - before == pytest.approx(10 * (1 - SHARE))


def test_an_account_runs_low_by_waiting_and_recovers_by_guessing_right() -> None:
    account = Account()
    while not account.is_low:
        account.add(tokens=1, plain_steps=1.2)
    account.add(tokens=3, plain_steps=1.2)
    assert not account.is_low


@pytest.mark.parametrize("others", [1, 3])
def test_a_sequence_that_never_drafts_keeps_its_share(make_engine: MakeEngine, others: int) -> None:
    """However well the others guess: its time, by the price list, is what plain decoding takes."""
    prompts = [prompt_of(9, seed=seed) for seed in range(others)]
    known = Client(make_engine())
    asked = [known.ask(asking(prompt, max_tokens=200)) for prompt in prompts]
    known.finish()
    client = Client(make_engine(num_blocks=128, cost=FixedCost(BY_ROWS, 0.0, 0.0)))
    for prompt, answer in zip(prompts, [known.answer(each).tokens for each in asked], strict=True):
        client.ask(asking(prompt, max_tokens=200), perfect(answer))
    waiting = client.ask(asking(prompt_of(9, seed=99), max_tokens=200), silent)
    client.step()  # reads the prompts
    seconds = plain = drafted = 0.0
    while client.answer(waiting).finish_reason is None:
        report = client.step()
        if report.sequences > 1:
            plain += _price(report.sequences)
            seconds += _price(report.rows)
            drafted += report.rows - report.sequences
    client.finish()
    assert client.answer(waiting).steps == 200
    assert drafted > 0
    assert SHARE - 0.01 < plain / seconds < 1


def _price(rows: int) -> float:
    return 0.9 + 0.1 * rows
