"""Which worker a request goes to."""

from collections import Counter

from decoding.request import Request, Stopping
from server.routing import route

IDLE = dict.fromkeys(range(4), 0)


def request(text: str, salt: str = "") -> Request:
    prompt = tuple(text.encode())
    return Request(id="x", prompt=prompt, stopping=Stopping(max_tokens=1), cache_salt=salt)


def test_a_conversation_stays_with_its_worker() -> None:
    beginning = "A system message that is long enough to tell conversations from one another. "
    assert len({route(request(beginning + "x" * n), IDLE) for n in range(20)}) == 1


def test_tenants_do_not_share_a_favourite() -> None:
    assert len({route(request("alike", str(n)), IDLE) for n in range(40)}) == 4


def test_different_prompts_are_spread() -> None:
    counts = Counter(route(request(f"prompt {n}"), IDLE) for n in range(400))
    assert min(counts.values()) > 60


def test_a_favourite_that_is_busier_is_passed_over() -> None:
    favourite = route(request("alike"), IDLE)
    assert route(request("alike"), {**IDLE, favourite: 2}) == favourite
    assert route(request("alike"), {**IDLE, favourite: 3}) != favourite


def test_a_lost_worker_moves_only_its_own() -> None:
    before = {n: route(request(f"prompt {n}"), IDLE) for n in range(100)}
    left = {number: 0 for number in IDLE if number != 2}
    after = {n: route(request(f"prompt {n}"), left) for n in range(100)}
    assert [n for n in before if before[n] != after[n]] == [n for n in before if before[n] == 2]
