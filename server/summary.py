"""The start-up summary: one honest look at what is being served, and a line to try it with."""

import json
import shlex
from collections.abc import Sequence

from rich.text import Text

from decoding.report import EngineInfo
from server.settings import Settings

KEY_PLACEHOLDER = "$STRIDE_API_KEY"


def summary(info: EngineInfo, settings: Settings, url: str, ready_seconds: float) -> Text:
    """Describe a server that is ready.

    Print it with ``soft_wrap=True``, so that the curl line stays one line when it is copied;
    ``.plain`` is the same without styles.
    """
    each = f"{settings.workers}, with {plural(info.threads, 'thread')} each"
    workers = [("Workers", each)] if settings.workers > 1 else []
    own_facts = [*engine_facts(info), *workers]
    return page(own_facts, settings, url, info.model, ready_seconds)


def page(
    own_facts: Sequence[tuple[str, str]],
    settings: Settings,
    url: str,
    model: str,
    ready_seconds: float,
) -> Text:
    """The summary of a server with these facts, whatever it is that answers."""
    name = settings.served_model_name or model
    keys = settings.accepted_keys()
    text = Text()
    text.append(f"\nStride is ready in {ready_seconds:.1f} s\n\n", style="bold green")
    for label, value in [*own_facts, *facts(url, len(keys))]:
        text.append(f"  {label:<12}", style="dim")
        text.append(f"{value}\n", style="bold" if label == "Model" else "")
    text.append("\n  Try it:\n\n", style="dim")
    text.append(f"{curl(url, name, with_key=bool(keys))}\n", style="cyan")
    return text


def facts(url: str, num_keys: int) -> list[tuple[str, str]]:
    """What is true of every server: a label and what to say."""
    return [
        ("Access", plural(num_keys, "API key") if num_keys else "open, no API key needed"),
        ("API", f"{url}/v1"),
        ("Metrics", f"{url}/metrics"),
    ]


def engine_facts(info: EngineInfo) -> list[tuple[str, str]]:
    """What is true of the engine wherever it is reached."""
    return [
        ("Model", f"{info.model}  ({info.architecture}, {count(info.parameters)} parameters)"),
        ("Computes in", f"{info.dtype} on {info.device}, {plural(info.threads, 'thread')}"),
        ("Kernels", info.kernels),
        ("KV cache", f"{info.cache_tokens:,} tokens, {info.cache_bytes / 2**20:,.0f} MiB"),
        ("Context", f"{info.context_length:,} tokens"),
        ("Strategies", ", ".join(info.strategies)),
        ("Exactness", info.exactness),
        (
            "Loaded in",
            f"{info.load_seconds:.1f} s, {info.resident_bytes / 2**20:,.0f} MiB resident",
        ),
    ]


def curl(url: str, model: str, *, with_key: bool) -> str:
    """A command that asks the server something, ready to paste into a shell."""
    body = {"model": model, "messages": [{"role": "user", "content": "What is a stride?"}]}
    parts = ["curl", shlex.quote(f"{url}/v1/chat/completions")]
    parts += ["-H", "'Content-Type: application/json'"]
    if with_key:
        # Double quotes: the shell has to put the key in.
        parts += ["-H", f'"Authorization: Bearer {KEY_PLACEHOLDER}"']
    parts += ["-d", shlex.quote(json.dumps(body, ensure_ascii=False))]
    return " ".join(parts)


def count(number: int) -> str:
    """Write a number of parameters: "134.5 M", "7.2 B"."""
    return f"{number / 1e9:.1f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"


def plural(number: int, noun: str) -> str:
    """Write a number with its noun: "1 thread", "2 threads"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
