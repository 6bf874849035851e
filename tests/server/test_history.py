"""Answers remembered as drafts: what is found, for whom, how much is kept, and the file."""

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from server.history import (
    ALMOST_THE_SAME,
    ANSWERS_PER_PROMPT,
    LONGEST_ANSWER,
    MAX_MATCHES,
    MAX_TENANT_TOKENS,
    MAX_TENANTS,
    SHORTEST_ANSWER,
    History,
    Match,
    Recall,
)

SORT, SEA, CAPITAL = (
    "How do I sort a list in Python?",
    "Write a poem about the sea.",
    "What is the capital of France?",
)
MISS = Recall("miss")


def answer(start: int, length: int = SHORTEST_ANSWER) -> tuple[int, ...]:
    return tuple(range(start, start + length))


def hit(*answers: tuple[int, ...]) -> Recall:
    return Recall("hit", tuple(Match(tokens, 1.0) for tokens in answers))


async def test_the_very_same_prompt_is_a_hit() -> None:
    history = History(10)
    history.remember("", [1, 2], SORT, answer(100))
    history.remember("", [3], SEA, answer(200))
    assert await history.recall("", (1, 2), SORT) == hit(answer(100))


async def test_a_prompt_that_only_begins_alike_is_no_hit() -> None:
    history = History(10)
    history.remember("", [1, 2], SORT, answer(100))
    assert (await history.recall("", [1, 2, 3], SORT)).outcome == "similar"


async def test_the_latest_distinct_answers_to_a_prompt_are_kept_the_latest_first() -> None:
    history = History(10)
    for start in (1, 2, 2, 3, 2):
        history.remember("", [7], SORT, answer(start))
    assert await history.recall("", [7], SORT) == hit(answer(2), answer(3))
    assert ANSWERS_PER_PROMPT == 2


@pytest.mark.parametrize(
    ("earlier", "question"),
    [
        (SORT, "how can I sort a python list?"),
        (SORT, "What is the best way to sort a list in Python, please?"),
        (CAPITAL, "What is the capital of Spain?"),  # the answer begins alike
        (SEA, "Please write me a short poem about the sea"),
        ("Why is the sky blue?", "Tell me why the sky is blue."),
        ("如何在Python中对列表排序？", "怎么在Python里给列表排序？"),
    ],
)
async def test_a_question_in_other_words_is_similar(earlier: str, question: str) -> None:
    history = History(10)
    history.remember("", [1], earlier, answer(100))
    outcome, ((found, likeness),) = await history.recall("", [2], question)
    assert (outcome, found) == ("similar", answer(100))
    assert 0 < likeness <= ALMOST_THE_SAME


@pytest.mark.parametrize("question", [SEA, CAPITAL, "How do I bake a cake?", "list", "?!", ""])
async def test_another_question_is_a_miss(question: str) -> None:
    history = History(10)
    history.remember("", [1], SORT, answer(100))
    assert await history.recall("", [2], question) == MISS


async def test_questions_without_a_word_are_not_similar_to_each_other() -> None:
    history = History(10)
    history.remember("", [1], "", answer(100))
    assert await history.recall("", [2], "…") == MISS


async def test_the_same_question_in_another_prompt_is_never_certain() -> None:
    history = History(10)
    history.remember("", [1], SORT, answer(100))
    expected = Recall("similar", (Match(answer(100), ALMOST_THE_SAME),))
    assert await history.recall("", [2], SORT) == expected


async def test_the_most_similar_comes_first_and_of_equals_the_latest() -> None:
    history = History(10)
    history.remember("", [1], "sort a list in Python", answer(100))
    history.remember("", [2], SORT, answer(200))
    history.remember("", [3], SORT, answer(300))
    recall = await history.recall("", [9], SORT)
    assert [match.answer for match in recall.matches] == [answer(300), answer(200), answer(100)]
    likeness = [match.likeness for match in recall.matches]
    assert likeness == sorted(likeness, reverse=True)


async def test_the_latest_of_many_equals_is_found() -> None:
    history = History(100)
    for prompt in range(100):
        history.remember("", [prompt], (SORT, SEA)[prompt % 2], answer(prompt))
    recall = await history.recall("", [-1], SORT)
    assert [match.answer[0] for match in recall.matches] == [98, 96, 94]


async def test_matches_are_few_and_distinct() -> None:
    history = History(10)
    for prompt in range(5):
        history.remember("", [prompt], SORT, answer(100))
        history.remember("", [prompt], SORT, answer(prompt))
    answers = [match.answer for match in (await history.recall("", [9], SORT)).matches]
    assert len(answers) == len(set(answers)) == MAX_MATCHES


async def test_text_pasted_into_a_question_does_not_decide() -> None:
    history = History(10)
    asked = f"{SORT} {'My code is this. ' * 10}", f"{'That was all. ' * 15}Answer in verse."
    history.remember("", [1], "lorem ipsum dolor ".join(asked), answer(100))
    question = (100 * "sit amet consectetur adipiscing ").join(asked)
    assert (await history.recall("", [2], question)).outcome == "similar"


async def test_a_history_of_no_entries_is_off() -> None:
    history = History(0)
    history.remember("", [1], SORT, answer(100))
    assert await history.recall("", [1], SORT) == Recall("off")


async def test_no_tenant_sees_what_another_was_answered() -> None:
    history = History(10)
    history.remember("ours", [1], SORT, answer(100))
    for tenant in ("theirs", "", "our", "ours:salt"):
        history.remember(tenant, [2], SEA, answer(200))
        assert await history.recall(tenant, [1], SORT) == MISS
    assert await history.recall("ours", [1], SORT) == hit(answer(100))


async def test_the_prompt_longest_unused_is_forgotten_first() -> None:
    history = History(2)
    history.remember("", [1], SORT, answer(100))
    history.remember("", [2], SEA, answer(200))
    await history.recall("", [1], SORT)
    history.remember("", [3], CAPITAL, answer(300))
    assert await history.recall("", [2], SEA) == MISS
    assert await history.recall("", [1], SORT) == hit(answer(100))
    assert await history.recall("", [3], CAPITAL) == hit(answer(300))


async def test_to_be_found_by_a_similar_question_is_use() -> None:
    history = History(2)
    history.remember("", [1], SORT, answer(100))
    history.remember("", [2], SEA, answer(200))
    await history.recall("", [9], "sort a list in Python")
    history.remember("", [3], CAPITAL, answer(300))
    assert await history.recall("", [1], SORT) == hit(answer(100))


async def test_of_what_is_found_at_once_the_most_similar_is_kept_longest() -> None:
    history = History(2)
    history.remember("", [1], SORT, answer(100))
    history.remember("", [2], "sort a list in Python", answer(200))
    await history.recall("", [9], SORT)
    history.remember("", [3], SEA, answer(300))
    assert await history.recall("", [1], SORT) == hit(answer(100))


async def test_the_tenant_longest_unheard_of_is_forgotten_first() -> None:
    history = History(1)
    for tenant in range(MAX_TENANTS):
        history.remember(str(tenant), [1], SORT, answer(tenant))
    await history.recall("0", [1], SORT)
    history.remember("one more", [1], SORT, answer(0))
    assert await history.recall("1", [1], SORT) == MISS
    assert await history.recall("0", [1], SORT) == hit(answer(0))


async def test_asking_for_nothing_known_takes_no_tenants_place() -> None:
    history = History(1)
    history.remember("ours", [1], SORT, answer(100))
    for stranger in range(MAX_TENANTS):
        await history.recall(str(stranger), [1], SORT)
    assert await history.recall("ours", [1], SORT) == hit(answer(100))


async def test_a_tenants_answers_are_bounded_in_tokens() -> None:
    history = History(1000)
    room = MAX_TENANT_TOKENS // LONGEST_ANSWER
    for prompt in range(room + 1):
        history.remember("", [prompt], "", answer(prompt, LONGEST_ANSWER))
    assert await history.recall("", [0], "") == MISS
    assert await history.recall("", [1], "") == hit(answer(1, LONGEST_ANSWER))


async def test_replacing_an_answer_gives_its_room_back() -> None:
    history = History(1000)
    history.remember("", [0], "", answer(0))
    for start in range(2 * MAX_TENANT_TOKENS // LONGEST_ANSWER):
        history.remember("", [1], "", answer(start, LONGEST_ANSWER))
    assert await history.recall("", [0], "") == hit(answer(0))


async def test_a_short_answer_is_not_worth_remembering() -> None:
    history = History(10)
    history.remember("", [1], SORT, answer(100, SHORTEST_ANSWER - 1))
    assert await history.recall("", [1], SORT) == MISS


async def test_a_long_answer_is_cut() -> None:
    history = History(10)
    history.remember("", [1], SORT, answer(0, LONGEST_ANSWER + 1))
    assert await history.recall("", [1], SORT) == hit(answer(0, LONGEST_ANSWER))


async def test_remembering_does_not_disturb_a_look_up_in_progress() -> None:
    """A look-up reads in a thread what the event loop goes on changing."""
    history = History(1000)
    for prompt in range(1000):
        history.remember("", [prompt], f"{SORT} {prompt}", answer(prompt))
    look_ups = [asyncio.create_task(history.recall("", [-1], f"{SORT} {n}")) for n in range(4)]
    await asyncio.sleep(0)  # now they are in their threads
    for prompt in range(1000, 2000):
        history.remember("", [prompt], SEA, answer(prompt))
    for number, look_up in enumerate(look_ups):
        recall = await look_up
        assert recall.matches[0] == Match(answer(number), ALMOST_THE_SAME)
    assert await history.recall("", [1999], SEA) == hit(answer(1999))
    assert await history.recall("", [-1], SORT) == MISS


def save_one(file: Path, fingerprint: str = "") -> None:
    history = History(10, file, fingerprint)
    history.remember("ours", [1], SORT, answer(100))
    history.save()


def loaded(file: Path, fingerprint: str = "", entries: int = 10) -> History:
    history = History(entries, file, fingerprint)
    history.load()
    return history


async def test_answers_outlive_the_process(tmp_path: Path) -> None:
    file = tmp_path / "state" / "history"
    save_one(file, "SmolLM2")
    history = loaded(file, "SmolLM2")
    assert await history.recall("ours", [1], SORT) == hit(answer(100))
    assert (await history.recall("ours", [2], SORT)).outcome == "similar"
    assert await history.recall("theirs", [1], SORT) == MISS


async def test_the_order_of_use_outlives_the_process(tmp_path: Path) -> None:
    file = tmp_path / "history"
    history = History(2, file)
    history.remember("", [1], SORT, answer(100))
    history.remember("", [2], SEA, answer(200))
    await history.recall("", [1], SORT)
    history.save()
    smaller = loaded(file, entries=1)
    assert await smaller.recall("", [2], SEA) == MISS
    assert await smaller.recall("", [1], SORT) == hit(answer(100))


def test_the_file_is_its_owners_alone_and_nothing_else_is_left_behind(tmp_path: Path) -> None:
    file = tmp_path / "history"
    save_one(file)
    save_one(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_the_first_run_has_no_file_and_nothing_to_complain_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = loaded(tmp_path / "history")
    history.save()
    assert caplog.messages == []
    assert list(tmp_path.iterdir()) == []


def test_a_history_that_is_off_leaves_the_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "history"
    save_one(file)
    before = file.read_bytes()
    loaded(file, entries=0).save()
    assert file.read_bytes() == before


def test_without_a_file_there_is_nothing_to_load_or_save() -> None:
    history = History(10)
    history.remember("", [1], SORT, answer(100))
    history.load()
    history.save()


async def ignored(file: Path, caplog: pytest.LogCaptureFixture, fingerprint: str = "") -> str:
    """Load a file that must not be used; return why it was not."""
    history = loaded(file, fingerprint)
    assert await history.recall("ours", [1], SORT) == MISS
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    before, _, after = record.message.partition(f"{file} ")
    assert before == "past answers are not used: "
    reason, _, advice = after.partition(" and will be overwritten; ")
    assert advice == "name another history_file to keep it"
    return reason


async def test_token_ids_of_another_model_are_not_replayed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_one(tmp_path / "history", "SmolLM2")
    assert await ignored(tmp_path / "history", caplog, "Qwen3") == "belongs to another model"


async def test_a_file_of_another_version_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "history"
    save_one(file)
    content = msgspec.msgpack.decode(file.read_bytes())
    file.write_bytes(msgspec.msgpack.encode(content | {"version": 2, "tenants": []}))
    assert await ignored(file, caplog) == "was written by another version of Stride"


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
async def test_a_file_that_is_not_whole_is_ignored(
    cut: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "history"
    save_one(file)
    file.write_bytes(file.read_bytes()[:cut])
    assert await ignored(file, caplog) == "is damaged"


async def test_a_single_wrong_bit_in_an_answer_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It would still decode, into a token that the model may not have."""
    file = tmp_path / "history"
    save_one(file)
    content = bytearray(file.read_bytes())
    content[content.index(bytes([100, 0, 0, 0])) + 3] ^= 0x40
    file.write_bytes(content)
    assert await ignored(file, caplog) == "is damaged"


@pytest.mark.parametrize("content", [b"history", b"\xc1", b"\xa1\xff", b"\x91" * 5000])
async def test_a_file_of_something_else_is_ignored(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "history"
    file.write_bytes(content)
    assert await ignored(file, caplog) == "is damaged"


async def test_a_file_that_cannot_be_read_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "history").mkdir()
    reason = await ignored(tmp_path / "history", caplog)
    assert reason == "cannot be read (Is a directory)"


def test_a_directory_that_cannot_be_written_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    file = tmp_path / "file" / "state" / "history"
    save_one(file)
    assert caplog.messages == [
        f"past answers are not kept: {file} cannot be written (Not a directory); "
        "make its directory writable or name another history_file"
    ]


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "history"
    file.mkdir()
    save_one(file)
    assert "cannot be written (Is a directory)" in caplog.text
    assert list(tmp_path.iterdir()) == [file]
