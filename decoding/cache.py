"""The paged KV cache's books: which blocks are free, shared, or hold a known prefix. No tensors.

A *block* is ``block_size`` consecutive *slots*, a slot holds the keys and values of one token in
every layer. Full blocks are found again by content: a digest chained from the tenant's salt over
all tokens up to the block's end, so equal digests mean equal prefixes of one tenant.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

NULL_BLOCK = 0
"""Padding reads this block; nothing ever writes it."""


class BlockPool:
    """All blocks of the cache. A block is *live* while referenced; afterwards its content can be
    found again until the block is needed: the least recently used goes first."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.num_blocks = num_blocks
        self._references = [0] * num_blocks
        self._free = OrderedDict.fromkeys(range(NULL_BLOCK + 1, num_blocks))
        self._block_of: dict[bytes, int] = {}
        self._digest_of: dict[int, bytes] = {}

    @property
    def num_free(self) -> int:
        """Blocks no live sequence holds."""
        return len(self._free)

    @property
    def capacity(self) -> int:
        """Tokens that fit when nothing is live."""
        return (self.num_blocks - 1) * self.block_size

    @property
    def usage(self) -> float:
        """Share of the blocks held by live sequences, 0..1."""
        return 1 - len(self._free) / (self.num_blocks - 1)

    def allocate(self) -> int:
        """Take a free block, forgetting what it held.

        Raises:
            KeyError: no block is free.
        """
        block, _ = self._free.popitem(last=False)
        if digest := self._digest_of.pop(block, None):
            del self._block_of[digest]
        self._references[block] = 1
        return block

    def find(self, digest: bytes) -> int | None:
        """The block with this content, if there is one; it is not taken yet."""
        return self._block_of.get(digest)

    def take(self, block: int) -> None:
        """Hold a block that ``find`` returned."""
        if self._references[block] == 0:
            del self._free[block]
        self._references[block] += 1

    def release(self, block: int) -> None:
        """Let go of a block; with its last holder it becomes free, its content still findable."""
        self._references[block] -= 1
        if self._references[block] == 0:
            self._free[block] = None

    def publish(self, block: int, digest: bytes) -> None:
        """Make a full block findable; the first block with a content stays the known one."""
        if digest not in self._block_of:
            self._block_of[digest] = block
            self._digest_of[block] = digest


class BlockTable:
    """The blocks of one sequence, in order: position ``p`` lives in slot ``slots(p + 1)[p]``."""

    def __init__(self, pool: BlockPool, salt: str) -> None:
        self._pool = pool
        self._root = sha256(salt.encode()).digest()
        self._digests: list[bytes] = []  # of the blocks published or adopted so far
        self._blocks: list[int] = []
        self._slots: NDArray[np.int64] = np.empty(0, np.int64)

    @property
    def num_blocks(self) -> int:
        """Blocks held."""
        return len(self._blocks)

    def blocks_missing(self, length: int) -> int:
        """How many more blocks it takes to hold ``length`` tokens."""
        return max(0, -(-length // self._pool.block_size) - len(self._blocks))

    def slots(self, length: int) -> NDArray[np.int64]:
        """The slots of positions ``0 .. length - 1``, shape ``[length]``."""
        return self._slots[:length]

    def adopt_prefix(self, tokens: Sequence[int]) -> int:
        """Share the cached blocks that start ``tokens``; return how many tokens they hold.

        The last token is never adopted: its row must be computed to know what follows it.
        """
        size = self._pool.block_size
        for end in range(size, len(tokens), size):
            digest = self._next_digest(tokens[end - size : end])
            block = self._pool.find(digest)
            if block is None:
                break
            self._pool.take(block)
            self._append(block)
            self._digests.append(digest)
        return len(self._blocks) * size

    def reserve(self, length: int) -> bool:
        """Hold room for ``length`` tokens; False, and nothing taken, if the pool has too little."""
        missing = self.blocks_missing(length)
        if missing > self._pool.num_free:
            return False
        for _ in range(missing):
            self._append(self._pool.allocate())
        return True

    def publish(self, tokens: Sequence[int], computed: int) -> None:
        """Make the full blocks among the first ``computed`` tokens findable."""
        size = self._pool.block_size
        while (end := (len(self._digests) + 1) * size) <= computed:
            digest = self._next_digest(tokens[end - size : end])
            self._pool.publish(self._blocks[len(self._digests)], digest)
            self._digests.append(digest)

    def release(self) -> None:
        """Give every block back, the last first: a shared beginning is kept longest."""
        for block in reversed(self._blocks):
            self._pool.release(block)
        self._blocks.clear()
        self._digests.clear()
        self._slots = self._slots[:0]

    def _next_digest(self, tokens: Sequence[int]) -> bytes:
        parent = self._digests[-1] if self._digests else self._root
        return sha256(parent + array("q", tokens).tobytes()).digest()

    def _append(self, block: int) -> None:
        size = self._pool.block_size
        self._blocks.append(block)
        self._slots = np.append(self._slots, np.arange(block * size, (block + 1) * size))
