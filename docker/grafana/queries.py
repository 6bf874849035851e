"""What the dashboard asks of Prometheus, in its query language.

``$job``, ``$instance`` and ``$model`` are chosen at the top of the page; Grafana fills in
``$__rate_interval`` (long enough for a rate) and ``$__range`` (what the page shows).
"""

import re
from typing import NamedTuple

POSITIONS = (1, 2, 3, 4, 6, 8, 12, 16)
WITHOUT_MODEL = re.compile(
    "requests_(rejected|cancelled|running|waiting)|queue_limit|batch_size|kv_cache|prefix_cache"
    "|event_loop|(draft|verify)_time|worker|in_flight|ready"
)


class Query(NamedTuple):
    """What is asked of Prometheus, and what its answers are called."""

    expression: str
    legend: str


def series(name: str, *labels: str) -> str:
    """The series of one of our metrics that the variables select."""
    selected = ['job=~"$job"', 'instance=~"$instance"']
    if not WITHOUT_MODEL.match(name):
        selected.append('model=~"$model"')
    return f"stride_{name}{{{', '.join([*selected, *labels])}}}"


def rate(name: str, *labels: str, by: str = "", over: str = "$__rate_interval") -> str:
    """Events a second, summed up but for the labels named."""
    grouping = f" by ({by}) " if by else ""
    return f"sum{grouping}(rate({series(name, *labels)}[{over}]))"


def gauge(name: str, by: str = "") -> str:
    """The sum of a gauge over all servers selected."""
    return f"sum by ({by}) ({series(name)})" if by else f"sum({series(name)})"


def quantile(share: float, name: str) -> str:
    """The value that this share of observations stays below."""
    return f"histogram_quantile({share}, {rate(f'{name}_bucket', by='le')})"


def quantiles(name: str, *percents: int) -> list[Query]:
    """Percentiles of a histogram."""
    return [Query(quantile(percent / 100, name), f"p{percent}") for percent in percents]


def mean(name: str, *labels: str, by: str = "", over: str = "$__rate_interval") -> str:
    """The mean of a histogram."""
    total, number = (rate(f"{name}_{part}", *labels, by=by, over=over) for part in ("sum", "count"))
    return f"{total} / {number}"


def within(name: str, seconds: float) -> str:
    """The share of observations that took at most so long."""
    buckets = rate(f"{name}_bucket", f'le="{seconds}"')
    return f"{buckets} / {rate(f'{name}_count')}"


TOKENS = rate("generation_tokens_total")
ERRORS = f"""({rate("requests_total", 'status=~"5.."')} or vector(0)) / {rate("requests_total")}"""
STEPS_SAVED = f"1 - {rate('decode_steps_total')} / {TOKENS}"
FORWARD_LENGTH = f"{TOKENS} / {rate('decode_steps_total')}"


def by_strategy(name: str) -> str:
    """A rate for each strategy."""
    return rate(name, by="strategy")


def speed_up() -> str:
    """Time of a token by plain decoding, in times that of the others."""
    name, window = "time_per_output_token_seconds", "$__range"
    plain = mean(name, 'strategy="autoregressive"', over=window)
    others = mean(name, 'strategy!="autoregressive"', by="strategy", over=window)
    return f"scalar({plain}) / ({others})"


def mix() -> str:
    """The share of each strategy in the requests that got one."""
    answered = 'strategy!="none"'
    shares = rate("requests_total", answered, by="strategy")
    return f"{shares} / ignoring (strategy) group_left () {rate('requests_total', answered)}"


def at_position(position: int) -> Query:
    """How many drafts were right down to this depth."""
    accepted = rate("accepted_tokens_per_position_total", f'position="{position}"')
    return Query(f"{accepted} / {rate('drafts_total')}", str(position))
