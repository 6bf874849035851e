"""The books of the paged cache: sharing, eviction, and that no block is ever lost or doubled."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from decoding.cache import NULL_BLOCK, BlockPool, BlockTable

SIZE = 4


def filled(pool: BlockPool, tokens: list[int], salt: str = "") -> BlockTable:
    """A table whose tokens are all computed and published."""
    table = BlockTable(pool, salt)
    table.adopt_prefix(tokens)
    assert table.reserve(len(tokens))
    table.publish(tokens, len(tokens))
    return table


def blocks(table: BlockTable) -> list[int]:
    return [int(slot) // SIZE for slot in table.slots(table.num_blocks * SIZE)[::SIZE]]


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool(num_blocks=7, block_size=SIZE)


def test_slots_are_those_of_the_blocks_in_order(pool: BlockPool) -> None:
    table = filled(pool, [1] * 6)
    first, second = blocks(table)
    expected = [*range(first * SIZE, first * SIZE + 4), second * SIZE, second * SIZE + 1]
    assert table.slots(6).tolist() == expected


def test_the_null_block_is_never_handed_out(pool: BlockPool) -> None:
    table = BlockTable(pool, "")
    assert table.reserve(pool.capacity)
    assert NULL_BLOCK not in blocks(table)


def test_reserving_takes_all_or_nothing(pool: BlockPool) -> None:
    table = BlockTable(pool, "")
    assert not table.reserve(pool.capacity + 1)
    assert (table.num_blocks, pool.num_free) == (0, 6)


def test_reserving_again_takes_only_what_is_missing(pool: BlockPool) -> None:
    table = BlockTable(pool, "")
    assert table.reserve(5)
    assert table.reserve(8)
    assert table.num_blocks == 2
    assert table.blocks_missing(9) == 1


def test_usage_is_the_share_of_live_blocks(pool: BlockPool) -> None:
    filled(pool, [1] * 9)
    assert pool.usage == 0.5


def test_a_prefix_is_shared_while_it_is_live(pool: BlockPool) -> None:
    first = filled(pool, [1, 2, 3, 4, 5, 6, 7, 8])
    second = BlockTable(pool, "")
    assert second.adopt_prefix([1, 2, 3, 4, 5, 6, 7, 8, 9]) == 8
    assert blocks(second) == blocks(first)
    assert pool.num_free == 4


def test_a_shared_block_is_free_only_after_its_last_holder(pool: BlockPool) -> None:
    tokens = [1, 2, 3, 4, 5]
    first, second = filled(pool, tokens), filled(pool, tokens)
    first.release()
    assert pool.num_free == 4
    second.release()
    assert pool.num_free == 6


def test_a_released_prefix_is_found_again(pool: BlockPool) -> None:
    filled(pool, [1, 2, 3, 4, 5]).release()
    assert pool.usage == 0
    assert BlockTable(pool, "").adopt_prefix([1, 2, 3, 4, 9]) == 4


def test_the_last_token_is_never_adopted(pool: BlockPool) -> None:
    """Its row must be computed, or nobody knows what follows it."""
    filled(pool, [1, 2, 3, 4, 5, 6, 7, 8])
    assert BlockTable(pool, "").adopt_prefix([1, 2, 3, 4, 5, 6, 7, 8]) == 4


def test_only_computed_tokens_are_published(pool: BlockPool) -> None:
    table = BlockTable(pool, "")
    table.reserve(8)
    table.publish([1, 2, 3, 4, 5, 6, 7, 8], computed=7)
    assert BlockTable(pool, "").adopt_prefix([1, 2, 3, 4, 5, 6, 7, 8, 9]) == 4


def test_publishing_goes_on_where_adoption_ended(pool: BlockPool) -> None:
    filled(pool, [1, 2, 3, 4]).release()
    longer = filled(pool, [1, 2, 3, 4, 5, 6, 7, 8])
    assert longer.num_blocks == 2
    assert BlockTable(pool, "").adopt_prefix([1, 2, 3, 4, 5, 6, 7, 8, 9]) == 8


def test_a_block_is_not_found_after_another_beginning(pool: BlockPool) -> None:
    """Equal tokens at equal positions have other keys and values if what precedes them differs."""
    filled(pool, [1, 2, 3, 4, 5, 6, 7, 8])
    assert BlockTable(pool, "").adopt_prefix([0, 2, 3, 4, 5, 6, 7, 8, 9]) == 0


def test_tenants_never_share(pool: BlockPool) -> None:
    filled(pool, [1, 2, 3, 4, 5], salt="theirs")
    assert BlockTable(pool, "ours").adopt_prefix([1, 2, 3, 4, 5]) == 0
    assert BlockTable(pool, "").adopt_prefix([1, 2, 3, 4, 5]) == 0


def test_the_least_recently_used_prefix_is_forgotten_first(pool: BlockPool) -> None:
    old, new = [1] * SIZE, [2] * SIZE
    filled(pool, old).release()
    filled(pool, new).release()
    filled(pool, [*old, 0]).release()  # used again
    BlockTable(pool, "").reserve(5 * SIZE)
    assert BlockTable(pool, "").adopt_prefix([*new, 0]) == 0
    assert BlockTable(pool, "").adopt_prefix([*old, 0]) == SIZE


def test_a_beginning_outlives_its_continuations(pool: BlockPool) -> None:
    filled(pool, list(range(16))).release()
    assert BlockTable(pool, "").reserve(5 * SIZE)
    assert BlockTable(pool, "").adopt_prefix(list(range(16))) == SIZE


def test_of_two_equal_blocks_the_first_stays_known(pool: BlockPool) -> None:
    """Two requests may compute one prefix side by side; forgetting one must not lose the other."""
    first, second = BlockTable(pool, ""), BlockTable(pool, "")
    for table in (first, second):
        table.reserve(SIZE)
        table.publish([1] * SIZE, SIZE)
    second.release()
    filled(pool, [2] * 5 * SIZE).release()
    assert BlockTable(pool, "").adopt_prefix([1] * 5) == SIZE


class Traffic(RuleBasedStateMachine):
    """Sequences come, grow, are computed, and go, in any order, over few tokens and blocks."""

    tables = Bundle("tables")

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(num_blocks=9, block_size=SIZE)
        self.held: dict[BlockTable, list[int]] = {}
        self.content: dict[int, tuple[str, tuple[int, ...]]] = {}  # what a block was filled with

    @rule(
        target=tables,
        tokens=st.lists(st.integers(0, 1), min_size=1, max_size=20),
        salt=st.sampled_from(["", "tenant"]),
    )
    def arrive(self, tokens: list[int], salt: str) -> BlockTable:
        table = BlockTable(self.pool, salt)
        adopted = table.adopt_prefix(tokens)
        assert adopted < len(tokens)
        for end, block in zip(range(SIZE, adopted + 1, SIZE), blocks(table), strict=True):
            assert self.content[block] == (salt, tuple(tokens[:end]))
        if table.reserve(len(tokens)):
            for end, block in zip(range(SIZE, len(tokens) + 1, SIZE), blocks(table), strict=False):
                self.content[block] = (salt, tuple(tokens[:end]))
            self.held[table] = tokens
        else:
            table.release()
        return table

    @rule(table=tables, share=st.floats(0, 1))
    def compute(self, table: BlockTable, share: float) -> None:
        tokens = self.held.get(table, [])
        table.publish(tokens, int(share * len(tokens)))

    @rule(table=consumes(tables))
    def leave(self, table: BlockTable) -> None:
        table.release()
        self.held.pop(table, None)

    @invariant()
    def no_block_is_both_free_and_held_or_lost(self) -> None:
        held = Counter(block for table in self.held for block in blocks(table))
        assert len(held) + self.pool.num_free == self.pool.num_blocks - 1
        assert NULL_BLOCK not in held

    @invariant()
    def only_equal_prefixes_share_a_block(self) -> None:
        for table, tokens in self.held.items():
            for end, block in zip(range(SIZE, len(tokens) + 1, SIZE), blocks(table), strict=False):
                assert self.content[block][1] == tuple(tokens[:end])

    def teardown(self) -> None:
        for table in self.held:
            table.release()
        assert self.pool.num_free == self.pool.num_blocks - 1
        everything = BlockTable(self.pool, "")
        assert everything.reserve(self.pool.capacity)
        assert len(set(blocks(everything))) == self.pool.num_blocks - 1


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=30)
