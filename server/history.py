"""Answers given before, as drafts for prompts that are asked again or resemble an earlier one.

The idea is LLMA's (arXiv 2304.04487): what was answered once is often answered again, word for
word. A draft is only a guess that the engine verifies, so nothing found here can change an answer.
"""

import asyncio
import logging
import os
import tempfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from rapidfuzz import fuzz
from rapidfuzz.process import cdist
from rapidfuzz.utils import default_process

MAX_MATCHES = 3
MAX_TENANTS = 256
MAX_TENANT_TOKENS = 250_000  # four bytes each
ANSWERS_PER_PROMPT = 2
SHORTEST_ANSWER = 8  # tokens; less is not worth a look-up
LONGEST_ANSWER = 4096  # tokens; the rest is cut off

# Chosen on questions written for it: of 32 rephrased pairs 31 are this alike, of 788 others 3.
SIMILAR = 0.65
# Where questions are equal but not the prompts, other answers may be asked for: never quite 1.
ALMOST_THE_SAME = 0.99

# Characters kept at either end of a question: what is asked stands there, pasted text between.
# Time grows with the square: 13 ms among 1,000 long questions so, 170 ms with 1,000 characters.
_QUESTION_END = 200

_FILE_VERSION = 1
_TOKEN = np.dtype("<i4")
_logger = logging.getLogger(__name__)


class Match(NamedTuple):
    """An answer given before, and how like this prompt its prompt was: 1.0 is the very same."""

    answer: tuple[int, ...]
    likeness: float


Outcome = Literal["hit", "similar", "miss", "off"]  # the most useful first


class Recall(NamedTuple):
    """What a look-up found: distinct answers, the most promising first.

    A hit is the very same prompt, token for token; similar are only other prompts.
    """

    outcome: Outcome
    matches: tuple[Match, ...] = ()


class History:
    """The memory of all tenants; what one was answered, no other is ever shown.

    One thread calls everything but ``save``, which may run in another: only snapshots, whose
    entries never change, are read there and in the thread that looks for similar questions.
    """

    def __init__(
        self, entries_per_tenant: int, file: Path | None = None, fingerprint: str = ""
    ) -> None:
        """Remember so many prompts a tenant; 0 turns the history off.

        ``fingerprint`` says whose token ids these are: a file with another one is not used.
        """
        self._entries_per_tenant = entries_per_tenant
        self._file = file if entries_per_tenant else None
        self._fingerprint = fingerprint
        self._tenants: OrderedDict[str, _Memory] = OrderedDict()  # least recently used first

    async def recall(self, tenant: str, prompt: Sequence[int], question: str) -> Recall:
        """Find answers to this prompt or, where there are none, to similar questions.

        Similar ones are looked for in a thread: 6 ms among 1,000 questions of 200 characters.
        """
        if not self._entries_per_tenant:
            return Recall("off")
        if tenant not in self._tenants:
            return Recall("miss")
        memory = self._memory(tenant)
        if same := memory.use(_digest(prompt)):
            return Recall("hit", _matches([(same, 1.0)]))
        found = await asyncio.to_thread(_most_similar, _words(question), memory.entries())
        for entry, _ in reversed(found):  # the best one is the last to be forgotten
            memory.use(entry.prompt)
        return Recall("similar" if found else "miss", _matches(found))

    def remember(
        self, tenant: str, prompt: Sequence[int], question: str, answer: Sequence[int]
    ) -> None:
        """Keep an answer for the next time, unless it is too short to be of use.

        ``question`` is what similarity is judged by: the last thing the user wrote.
        """
        if self._entries_per_tenant and len(answer) >= SHORTEST_ANSWER:
            packed = _packed(answer[:LONGEST_ANSWER])
            self._memory(tenant).add(_digest(prompt), _words(question), packed)

    def load(self) -> None:
        """Take up what the file holds; one that cannot be used is ignored with a warning."""
        if self._file is None:
            return
        try:
            tenants = _read(self._file, self._fingerprint)
        except _UnusableFileError as problem:
            _logger.warning(
                "past answers are not used: %s %s and will be overwritten; "
                "name another history_file to keep it",
                self._file,
                problem,
            )
            return
        for tenant, entries in tenants.items():
            memory = self._memory(tenant)
            for entry in entries:
                memory.put(entry)

    def save(self) -> None:
        """Write the file, if there is anything to write; a failure is logged."""
        if self._file is None or not self._tenants:
            return
        tenants = {tenant: memory.entries() for tenant, memory in list(self._tenants.items())}
        try:
            _replace(self._file, _encoded(tenants, self._fingerprint))
        except OSError as error:
            _logger.error(
                "past answers are not kept: %s cannot be written (%s); "
                "make its directory writable or name another history_file",
                self._file,
                error.strerror,
            )

    def _memory(self, tenant: str) -> "_Memory":
        """The tenant's own, new if need be: then the tenant longest unheard of is forgotten."""
        memory = self._tenants.setdefault(tenant, _Memory(self._entries_per_tenant))
        self._tenants.move_to_end(tenant)
        if len(self._tenants) > MAX_TENANTS:
            self._tenants.popitem(last=False)
        return memory


class _Entry(Struct, frozen=True):
    """One prompt and its latest distinct answers, the latest first, their token ids packed."""

    prompt: bytes  # a digest
    words: str
    answers: tuple[bytes, ...]

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.answers)) // _TOKEN.itemsize


class _Memory:
    """What one tenant asked and was answered, bounded in prompts and in tokens."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._num_tokens = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # least recently used first

    def entries(self) -> tuple[_Entry, ...]:
        """A snapshot, the least recently used first."""
        return tuple(self._entries.values())

    def use(self, prompt: bytes) -> _Entry | None:
        """The entry of this prompt, if there is one: it is now the last to be forgotten."""
        if prompt not in self._entries:
            return None
        self._entries.move_to_end(prompt)
        return self._entries[prompt]

    def add(self, prompt: bytes, words: str, answer: bytes) -> None:
        known = self._entries.get(prompt)
        others = (other for other in known.answers if other != answer) if known else ()
        self.put(_Entry(prompt, words, (answer, *others)[:ANSWERS_PER_PROMPT]))

    def put(self, entry: _Entry) -> None:
        """Keep the entry instead of an older one of its prompt, and forget what is too much."""
        if entry.prompt in self._entries:
            self._forget(entry.prompt)
        self._entries[entry.prompt] = entry
        self._num_tokens += entry.num_tokens
        while len(self._entries) > self._max_entries or self._num_tokens > MAX_TENANT_TOKENS:
            self._forget(next(iter(self._entries)))

    def _forget(self, prompt: bytes) -> None:
        self._num_tokens -= self._entries.pop(prompt).num_tokens


def _most_similar(words: str, entries: Sequence[_Entry]) -> list[tuple[_Entry, float]]:
    """The entries whose questions are most like these words, each with its likeness."""
    likeness = _likeness(words, [entry.words for entry in entries])
    # Of equals, the most recently used: it stands last.
    best = np.argsort(likeness, kind="stable")[::-1][:MAX_MATCHES]
    return [
        (entries[number], min(float(likeness[number]), ALMOST_THE_SAME))
        for number in best
        if likeness[number] >= SIMILAR
    ]


def _likeness(words: str, others: Sequence[str]) -> NDArray[np.float32]:
    """How alike questions are, 0..1: the mean of the words they share and of all they say.

    The first alone would find "yes" in every question with that word, the second alone would miss
    a question asked again with more words around it.
    """
    # cdist lets other threads run meanwhile; extract, made for this, would halt the event loop.
    shared = cdist([words], others, scorer=fuzz.token_set_ratio)[0]
    whole = cdist([words], others, scorer=fuzz.ratio)[0]
    return np.asarray((shared + whole) / 200, np.float32)


def _words(question: str) -> str:
    """The words of a question in alphabetical order, in small letters, without punctuation."""
    if len(question) > 2 * _QUESTION_END:
        question = f"{question[:_QUESTION_END]} {question[-_QUESTION_END:]}"
    return " ".join(sorted(default_process(question).split()))


def _matches(found: Iterable[tuple[_Entry, float]]) -> tuple[Match, ...]:
    """Distinct answers of these entries, the best first."""
    likeness: dict[bytes, float] = {}
    for entry, alike in found:
        for answer in entry.answers:
            likeness.setdefault(answer, alike)
    best = islice(likeness.items(), MAX_MATCHES)
    return tuple(Match(_unpacked(answer), alike) for answer, alike in best)


def _digest(prompt: Sequence[int]) -> bytes:
    return sha256(_packed(prompt)).digest()


def _packed(tokens: Sequence[int]) -> bytes:
    return np.asarray(tokens, _TOKEN).tobytes()


def _unpacked(tokens: bytes) -> tuple[int, ...]:
    return tuple(np.frombuffer(tokens, _TOKEN).tolist())


class _File(Struct):
    """What is on disk. The tenants stay encoded until all the rest is found to be right."""

    version: int
    fingerprint: str
    checksum: int  # of the tenants: a wrong token id would be outside the model's vocabulary
    tenants: msgspec.Raw


class _UnusableFileError(Exception):
    """Why a file cannot be used, as the end of a sentence that begins with its name."""


def _read(file: Path, fingerprint: str) -> dict[str, tuple[_Entry, ...]]:
    """What a file holds; nothing if there is none.

    Raises:
        _UnusableFileError: it cannot be read, is damaged or not meant for us.
    """
    try:
        saved = msgspec.msgpack.decode(file.read_bytes(), type=_File)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _UnusableFileError(f"cannot be read ({error.strerror})") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _UnusableFileError("is damaged") from error
    if saved.version != _FILE_VERSION:
        raise _UnusableFileError("was written by another version of Stride")
    if saved.fingerprint != fingerprint:
        raise _UnusableFileError("belongs to another model")
    if saved.checksum != zlib.crc32(saved.tenants):
        raise _UnusableFileError("is damaged")
    return msgspec.msgpack.decode(saved.tenants, type=dict[str, tuple[_Entry, ...]])


def _encoded(tenants: dict[str, tuple[_Entry, ...]], fingerprint: str) -> bytes:
    encoded = msgspec.msgpack.encode(tenants)
    file = _File(_FILE_VERSION, fingerprint, zlib.crc32(encoded), msgspec.Raw(encoded))
    return msgspec.msgpack.encode(file)


def _replace(file: Path, content: bytes) -> None:
    """Write a file whole or not at all, for its owner's eyes only."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")  # mode 0600
    try:
        with open(descriptor, "wb") as output:
            output.write(content)
        os.replace(temporary, file)
    except OSError:
        os.unlink(temporary)
        raise
