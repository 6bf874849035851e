"""Reads labelled questions: our own, and sets in the layout of Skeleton-of-Thought's authors."""

import csv
from pathlib import Path
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from benchmarks.processes import ROOT
from server.router import Kind

QUESTIONS = ROOT / "benchmarks" / "router" / "questions.jsonl"

KINDS: tuple[Kind, ...] = get_args(Kind)
Split = Literal["train", "test"]


class Question(Struct, frozen=True):
    """A question, what kind of answer it asks for, and whether it is for training or testing."""

    text: str
    label: Kind
    language: Literal["en", "zh", "ja"]
    split: Split


class Labelled(Struct, frozen=True):
    """A question of a public set: all that is said of it is whether it is ``independent``."""

    text: str
    independent: bool


def own(split: Split) -> list[Question]:
    """Our own questions of a split, in the file's order.

    Raises:
        msgspec.MsgspecError: a line is not a labelled question.
    """
    lines = QUESTIONS.read_bytes().splitlines()
    questions = [msgspec.json.decode(line, type=Question) for line in lines]
    return [question for question in questions if question.split == split]


def public(file: Path) -> list[Labelled]:
    """The questions of a ``router.csv``: ``label;request``, 1 for independent points.

    Raises:
        KeyError: the file has other columns.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter=";")
        return [Labelled(row["request"], row["label"] == "1") for row in rows]
