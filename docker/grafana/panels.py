"""The panels, row by row. What looks odd in a figure is explained in the panel's own text."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from queries import (
    ERRORS,
    FORWARD_LENGTH,
    POSITIONS,
    STEPS_SAVED,
    TOKENS,
    Query,
    at_position,
    by_strategy,
    gauge,
    mean,
    mix,
    quantile,
    quantiles,
    rate,
    series,
    speed_up,
    within,
)

SECONDS_TO_FIRST_TOKEN = 1.0  # a boundary of the histogram, as the next one
SECONDS_A_TOKEN = 0.1

GREEN = "#73BF69"
YELLOW = "#FADE2A"
ORANGE = "#FF9830"
RED = "#F2495C"
BLUE = "#5794F2"
PURPLE = "#B877D9"
GREY = "#8E8E96"
COLOURS = {
    "{{strategy}}": {
        "autoregressive": GREY,
        "lookahead": BLUE,
        "reference": GREEN,
        "jacobi": ORANGE,
        "skeleton": PURPLE,
    },
    "{{status}}": {"2..": GREEN, "4..": YELLOW, "5..": RED},
    "p50": {"p50": GREEN},
    "p95": {"p95": ORANGE},
    "p99": {"p99": RED},
    "errors": {"errors": RED},
    "limit": {"limit": RED},
    "running": {"running": GREEN},
    "waiting": {"waiting": YELLOW},
    "guessing": {"guessing": BLUE},
    "verifying": {"verifying": GREEN},
}


class Panel(NamedTuple):
    """What a panel shows, without what all panels share.

    ``steps`` are colours from values on. ``is_empty`` says what it means that there is nothing.
    """

    title: str
    text: str
    unit: str
    queries: Sequence[Query]
    kind: Literal["stat", "timeseries", "bargauge"] = "timeseries"
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),)
    stacked: bool = False
    most: float | None = None
    is_empty: str = "No traffic"


class Row(NamedTuple):
    """Panels under one heading, line by line."""

    title: str
    lines: Sequence[Sequence[Panel]]


def stat(
    title: str, text: str, unit: str, expression: str, *steps: tuple[float | None, str]
) -> Panel:
    """One large figure."""
    return Panel(title, text, unit, [Query(expression, "")], kind="stat", steps=steps)


def upper_limit(value: float) -> list[tuple[float | None, str]]:
    """Red from a value on."""
    return [(None, "transparent"), (value, RED)]


GLANCE = [
    stat(
        "Steps saved",
        "Forward passes that plain decoding would have needed and that were not made.",
        "percentunit",
        STEPS_SAVED,
        (None, GREY),
        (0.02, BLUE),
        (0.2, GREEN),
    ),
    stat(
        "Tokens a forward",
        "Tokens that one forward pass gives a choice. Plain decoding: 1.",
        "short",
        FORWARD_LENGTH,
        (None, GREY),
        (1.02, BLUE),
        (1.25, GREEN),
    ),
    stat("Tokens a second", "Tokens of answers, all strategies.", "short", TOKENS, (None, BLUE)),
    stat(
        "First token, p95",
        "95 of 100 requests waited at most so long for their first token.",
        "s",
        quantile(0.95, "time_to_first_token_seconds"),
        (None, GREEN),
        (SECONDS_TO_FIRST_TOKEN / 2, ORANGE),
        (SECONDS_TO_FIRST_TOKEN, RED),
    ),
    stat(
        "Errors",
        "Requests that failed through no fault of the client: status 5xx.",
        "percentunit",
        ERRORS,
        (None, GREEN),
        (0.005, ORANGE),
        (0.01, RED),
    ),
    stat(
        "Ready", "Servers that would answer now.", "short", gauge("ready"), (None, RED), (1, GREEN)
    ),
]

SERVICE = [
    [
        Panel(
            "Requests by status",
            "Requests that ended, each second.",
            "reqps",
            [Query(rate("requests_total", by="status"), "{{status}}")],
            stacked=True,
        ),
        Panel(
            "Errors",
            "Share of requests that ended with 5xx.",
            "percentunit",
            [Query(ERRORS, "errors")],
            steps=upper_limit(0.01),
        ),
        Panel(
            "Tokens in and out",
            "Tokens of prompts read and of answers written, each second.",
            "short",
            [Query(rate("prompt_tokens_total"), "in"), Query(TOKENS, "out")],
        ),
        Panel(
            "Goodput",
            f"Share of requests with their first token within {SECONDS_TO_FIRST_TOKEN:g} s, and of"
            f" answers that took at most {SECONDS_A_TOKEN:g} s a token after it.",
            "percentunit",
            [
                Query(within("time_to_first_token_seconds", SECONDS_TO_FIRST_TOKEN), "first token"),
                Query(within("time_per_output_token_seconds", SECONDS_A_TOKEN), "each token"),
            ],
            most=1,
        ),
    ],
    [
        Panel(
            "Time to first token",
            "From the arrival of a request to its first token; the line is the objective.",
            "s",
            quantiles("time_to_first_token_seconds", 50, 95, 99),
            steps=upper_limit(SECONDS_TO_FIRST_TOKEN),
        ),
        Panel(
            "Time per output token",
            "Decode time by token, after the first; the line is the objective.",
            "s",
            quantiles("time_per_output_token_seconds", 50, 95, 99),
            steps=upper_limit(SECONDS_A_TOKEN),
        ),
        Panel(
            "Request duration",
            "From the arrival of a request to the end of its answer.",
            "s",
            quantiles("request_duration_seconds", 50, 95, 99),
        ),
    ],
]

SATURATION = [
    [
        Panel(
            "Running and waiting",
            "Requests in the engine, those that wait for it, and how many may wait.",
            "short",
            [
                Query(gauge("requests_running"), "running"),
                Query(gauge("requests_waiting"), "waiting"),
                Query(gauge("queue_limit"), "limit"),
            ],
        ),
        Panel(
            "Queue time",
            "From arrival at the engine to the beginning of its work.",
            "s",
            quantiles("queue_time_seconds", 50, 95, 99),
        ),
        Panel(
            "Turned away",
            "Requests refused before the engine, by reason: overload (queue_full, token_backlog,"
            " deadline, not_ready, draining) or the request itself (auth, invalid, too_large).",
            "reqps",
            [Query(rate("requests_rejected_total", by="reason"), "{{reason}}")],
            stacked=True,
        ),
        Panel(
            "Clients that left",
            "Requests whose client hung up, by how far they were.",
            "reqps",
            [Query(rate("requests_cancelled_total", by="phase"), "{{phase}}")],
            stacked=True,
        ),
    ],
    [
        Panel(
            "Batch size",
            "Sequences that share a forward.",
            "short",
            [Query(mean("batch_size"), "mean"), *quantiles("batch_size", 95)],
        ),
        Panel(
            "KV cache",
            "Share of the cache that live sequences hold, and share of prompt tokens that were"
            " found in it.",
            "percentunit",
            [
                Query(f"max({series('kv_cache_usage_ratio')})", "in use"),
                Query(
                    f"{rate('prefix_cache_hits_tokens_total')}"
                    f" / {rate('prefix_cache_queries_tokens_total')}",
                    "prefix hits",
                ),
            ],
            most=1,
        ),
        Panel(
            "Event loop lag",
            "How late the API process comes to what is due: what blocks it delays every stream.",
            "s",
            quantiles("event_loop_lag_seconds", 50, 99),
            steps=upper_limit(0.25),
        ),
    ],
]

STRATEGIES = [
    [
        Panel(
            "Mix",
            "Share of each strategy in the requests.",
            "percentunit",
            [Query(mix(), "{{strategy}}")],
            stacked=True,
            most=1,
        ),
        Panel(
            "Tokens a second",
            "Tokens of answers.",
            "short",
            [Query(by_strategy("generation_tokens_total"), "{{strategy}}")],
            stacked=True,
        ),
        Panel(
            "Acceptance length",
            "Tokens that one forward pass gives a choice. Plain decoding: 1.",
            "short",
            [
                Query(
                    f"{by_strategy('generation_tokens_total')}"
                    f" / {by_strategy('decode_steps_total')}",
                    "{{strategy}}",
                )
            ],
        ),
        Panel(
            "Acceptance by position",
            "Share of drafts that were right down to this depth: where it is near zero, drafts are"
            " longer than they need to be.",
            "percentunit",
            [at_position(position) for position in POSITIONS],
            kind="bargauge",
            steps=[(None, GREY), (0.1, BLUE), (0.4, GREEN)],
        ),
    ],
    [
        Panel(
            "Steps saved",
            "Share of forward passes that were not needed.",
            "percentunit",
            [
                Query(
                    f"1 - {by_strategy('decode_steps_total')}"
                    f" / {by_strategy('generation_tokens_total')}",
                    "{{strategy}}",
                )
            ],
        ),
        Panel(
            "Speed-up against plain",
            "Time of a token by plain decoding, divided by that of the strategy, over the time"
            " shown. Their requests differ: a hint, no benchmark.",
            "suffix:×",
            [Query(speed_up(), "{{strategy}}")],
            kind="bargauge",
            steps=[(None, RED), (0.98, GREY), (1.05, BLUE), (1.3, GREEN)],
            is_empty="Nothing was decoded plainly",
        ),
        Panel(
            "Fallbacks",
            "Answers that a strategy could not give, and which one gave them.",
            "ops",
            [
                Query(
                    rate("strategy_fallbacks_total", by="strategy, fallback"),
                    "{{strategy}} → {{fallback}}",
                )
            ],
            is_empty="None",
        ),
        Panel(
            "Guessing and verifying",
            "Time of engine steps, each second: spent on guesses, and on all else.",
            "percentunit",
            [
                Query(rate("draft_time_seconds_total"), "guessing"),
                Query(rate("verify_time_seconds_total"), "verifying"),
            ],
            stacked=True,
        ),
    ],
]

WORKERS = [
    [
        Panel(
            "Up",
            "Workers that live: 1 or 0 each.",
            "short",
            [Query(gauge("worker_up", by="instance, worker"), "{{worker}}")],
            most=1,
            is_empty="No worker",
        ),
        Panel(
            "Restarts",
            "Workers that were replaced, by how they ended.",
            "short",
            [
                Query(
                    f"sum by (reason) (increase({series('worker_restarts_total')}"
                    "[$__rate_interval]))",
                    "{{reason}}",
                )
            ],
            stacked=True,
            is_empty="None",
        ),
        Panel(
            "Last heartbeat",
            "Time since a worker was last heard of.",
            "s",
            [Query(gauge("worker_last_heartbeat_seconds", by="instance, worker"), "{{worker}}")],
            steps=upper_limit(10),
            is_empty="No worker",
        ),
    ],
    [
        Panel(
            "Memory",
            "Resident memory of the workers and of the API process.",
            "bytes",
            [
                Query(gauge("worker_rss_bytes", by="instance, worker"), "{{worker}}"),
                Query(
                    'sum(process_resident_memory_bytes{job=~"$job", instance=~"$instance"})', "API"
                ),
            ],
            is_empty="No worker",
        ),
        Panel(
            "Start duration",
            "How long workers took to load the model and check themselves.",
            "s",
            [Query(gauge("worker_start_duration_seconds", by="instance, worker"), "{{worker}}")],
            is_empty="No worker",
        ),
        Panel(
            "Lost in flight",
            "Requests that were lost with their worker.",
            "short",
            [Query(f"sum(increase({series('in_flight_lost_total')}[$__rate_interval]))", "lost")],
            is_empty="None",
        ),
    ],
]

ROWS = [
    Row("Service level", SERVICE),
    Row("Saturation", SATURATION),
    Row("Strategies", STRATEGIES),
    Row("Workers", WORKERS),
]
