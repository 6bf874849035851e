"""Puts findings into files: the page, its pictures, and the figures."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.comparisons import Spread
from benchmarks.side_by_side.findings import Findings, decoding, first_token, whole
from benchmarks.side_by_side.goals import goals
from benchmarks.side_by_side.journal import Answered
from benchmarks.side_by_side.page import page
from benchmarks.side_by_side.pictures import by_category, by_streams
from benchmarks.side_by_side.run import ALONE


def write(found: Findings, folder: Path) -> Iterator[Path]:
    """Write the page, its pictures and the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("side-by-side.md", page(found)),
        ("side-by-side.svg", by_category(found)),
        ("side-by-side-streams.svg", by_streams(found)),
        ("side-by-side.json", _lines(as_json(found))),
    ):
        path = folder / name
        path.write_text(text, encoding="utf-8")
        yield path


def _lines(figures: Mapping[str, Any]) -> str:
    """JSON with an entry of every list on a line of its own."""

    def written(value: object) -> str:
        if isinstance(value, list):
            return "[\n  " + ",\n  ".join(map(written, value)) + "\n ]" if value else "[]"
        return json.dumps(value, ensure_ascii=False)

    entries = (f" {json.dumps(name)}: {written(value)}" for name, value in figures.items())
    return "{\n" + ",\n".join(entries) + "\n}\n"


def as_json(found: Findings) -> dict[str, Any]:
    """Every figure, the single answers' included; not their texts."""
    return {
        "facts": dict(found.facts),
        "command": found.command,
        "is_complete": found.is_complete,
        "goals": [
            {"title": each.title, "against": each.against, "at_least": each.at_least}
            | {"ratio": each.ratio and each.ratio._asdict(), "verdict": each.verdict.strip("*")}
            for each in goals(found)
        ],
        "cells": list(_cells(found)),
        "loads": [
            {"way": way.name, "streams": streams, **Spread.of(speeds)._asdict(), "speeds": speeds}
            for way in found.ways
            for streams in found.streams
            if (speeds := list(found.speeds(way.name, streams).values()))
        ],
        "failed": dict(found.failed),
    }


def _cells(found: Findings) -> Iterator[dict[str, Any]]:
    """What was measured, by way, number of streams and category."""
    for way in found.ways:
        for streams in (ALONE, *found.streams):
            for category in found.categories:
                if answers := found.answers(way.name, [category], streams=streams, loops=None):
                    yield {
                        "way": way.name,
                        "streams": streams,
                        "category": category,
                        "answers": list(map(_answer, answers.values())),
                    }


def _answer(answer: Answered) -> dict[str, Any]:
    speed = decoding(answer)
    return {
        "session": answer.session,
        "tokens": answer.tokens,
        "end_to_end": round(whole(answer), 2),
        "decoding": speed and round(speed, 2),
        "first_token_ms": round(first_token(answer), 1),
        "forwards": answer.forwards,
        "strategy": answer.strategy,
        "is_loop": answer.is_loop,
    }
