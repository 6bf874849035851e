"""The one Prometheus registry of the server, and the events that move it.

Labels come from closed sets: the model's own name, and strategies, endpoints and reasons we know.
"""

from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from typing import TypeVar, cast, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from decoding import strategies
from decoding.report import StepReport
from decoding.request import BranchCounts, Decision, Output
from server.engine_client import EngineClient
from server.engine_metrics import EngineCollector
from server.errors import RejectionReason
from server.history import Outcome
from server.scheduler import Choice
from server.tally import Tally
from server.vllm_metrics import alias_of
from server.worker_metrics import WorkerMetrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # series that nobody reads

CONTENT_TYPE = CONTENT_TYPE_LATEST
NONE = "none"  # the label of what a request did not get to

_LONG_TAIL = (20, 40, 80, 160, 320, 640, 1280, 2560)
FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *_LONG_TAIL,
)
TOKEN_GAP_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(20, 40, 80),
)
REQUEST_BUCKETS = (
    *(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60),
    *(120, 240, 480, 960, 1920, 7680),
)
STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STEP_TOKEN_BUCKETS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
POSITIONS = tuple(map(str, range(1, 17)))  # depths of a draft that are counted one by one

_BY_STRATEGY = ("model", "strategy")
AnyMetric = TypeVar("AnyMetric", Counter, Histogram)
_CANCEL_PHASES = ("queued", "prefill", "decode")


class Metrics:
    """Everything that `/metrics` shows about one model."""

    def __init__(self, model: str, answered_by: Sequence[str] = ()) -> None:
        """``answered_by`` names the strategies there are; by default those of the engine."""
        self.registry = CollectorRegistry()
        self._model = model
        self._by_strategy: list[Counter | Histogram] = []
        self._series: dict[tuple[Counter | Histogram, str], Counter | Histogram] = {}
        ProcessCollector(registry=self.registry)
        self._define_requests()
        self._define_tokens()
        self._define_budget()
        self._define_engine()
        self._start_at_zero(answered_by or strategies.names())
        self.workers = WorkerMetrics(self.registry)

    def watch(self, engine: EngineClient) -> None:
        """Show the state of this engine, read at every scrape."""
        self.registry.register(EngineCollector(engine, self._model, stride_version()))

    def limit(self, answers: int) -> None:
        """Show how many answers may be in progress."""
        self._queue_limit.set(answers)

    def render(self) -> bytes:
        """The exposition text, vLLM's names included."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The same, one metric at a time: to write all takes as long as some forwards.

        They are read together, so that steps are never ahead of the tokens they gave.
        """
        for metric in list(self.registry.collect()):
            yield generate_latest(_Single(metric))
            if alias := alias_of(metric, self._model):
                yield generate_latest(_Single(alias))

    def rejected(self, reason: RejectionReason) -> None:
        """Count a request that was turned away before it reached the engine."""
        self._rejections.labels(reason).inc()

    def refused(self, endpoint: str, status: int) -> None:
        """Count a generation request that was turned away in the totals, too."""
        self._requests.labels(self._model, NONE, endpoint, str(status), NONE).inc()

    def cancelled(self, tally: Tally) -> None:
        """Count a request whose client left."""
        has_tokens = tally.first_token_seconds is not None
        phase = "decode" if has_tokens else "prefill" if tally.choices else "queued"
        self.left(phase)

    def left(self, phase: str) -> None:
        """Count a request whose client left in this phase: queued, prefill or decode."""
        self._cancellations.labels(phase).inc()

    def observe_usage(self, strategy: str, prompt_tokens: int, answer_tokens: int) -> None:
        """Count what somebody else says that an answer took."""
        self._of(self._prompt_tokens, strategy).inc(prompt_tokens)
        self._of(self._generated, strategy).inc(answer_tokens)

    def observe_admission(self, strategy: str, tally: Tally) -> None:
        """Count the prompt of a request that goes to the engine, and what it took until then."""
        self._of(self._prompt_tokens, strategy).inc(tally.prompt_tokens)
        self._of(self._admission_time, strategy).observe(tally.admission_seconds)

    def observe_loop_lag(self, seconds: float) -> None:
        """Record how late the event loop came to what was due."""
        self._loop_lag.observe(seconds)

    def observe_history(self, outcome: Outcome) -> None:
        """Count a look-up of past answers."""
        self._history.labels(outcome).inc()

    def observe_choice(self, choice: Choice) -> None:
        """Count the choice of a strategy."""
        self._choices.labels(self._model, choice.strategy, choice.cause).inc()

    def _observe_branches(self, strategy: str, counts: BranchCounts) -> None:
        """Count what branches read, when they begin."""
        self._of(self._branch_prompt_tokens, strategy).inc(counts.prompt_tokens)
        self._of(self._branch_shared_tokens, strategy).inc(counts.cached_tokens)

    def fell_back(self, strategy: str, fallback: str) -> None:
        """Count an answer that a strategy left to another one."""
        self._fallbacks.labels(self._model, strategy, fallback).inc()

    def observe_first_token(self, strategy: str, seconds: float, prefill: float | None) -> None:
        """Record how long a request waited for its first token, reading its prompt included."""
        self._of(self._first_token, strategy).observe(seconds)
        if prefill is not None:
            self._of(self._prefill_time, strategy).observe(prefill)

    def observe_output(self, strategy: str, output: Output, gap: float | None) -> None:
        """Count what one step added to one choice, ``gap`` seconds after its last tokens."""
        self._of(self._generated, strategy).inc(len(output.tokens))
        if output.steps:
            self._of(self._decode_steps, strategy).inc(output.steps)
            self._of(self._step_tokens, strategy).observe(len(output.tokens))
            self._of(self._steps_saved, strategy).inc(max(0, len(output.tokens) - output.steps))
        if output.drafted:
            self._observe_draft(strategy, output)
        if output.branches is not None:
            self._observe_branches(strategy, output.branches)
        if gap is not None:
            self._of(self._token_gap, strategy).observe(gap)
        if output.queue_seconds is not None:
            self._of(self._queue_time, strategy).observe(output.queue_seconds)

    def _observe_draft(self, strategy: str, output: Output) -> None:
        for source, counts in output.sources.items():
            labels = (self._model, strategy, source)
            self._source_drafts.labels(*labels).inc(counts.drafts)
            self._source_drafted.labels(*labels).inc(counts.drafted)
            self._source_accepted.labels(*labels).inc(counts.accepted)
        for position in chain.from_iterable(POSITIONS[:run] for run in output.accepted_runs):
            self._positions.labels(self._model, strategy, position).inc()
        self._of(self._drafts, strategy).inc(len(output.accepted_runs))
        self._of(self._drafted, strategy).inc(output.drafted)
        self._of(self._accepted, strategy).inc(output.accepted)
        self._of(self._discarded, strategy).inc(output.drafted - output.accepted)

    def _of(self, metric: AnyMetric, strategy: str) -> AnyMetric:
        """The series of a strategy, looked up once: looking up costs more than counting."""
        key = (metric, strategy)
        if key not in self._series:
            self._series[key] = metric.labels(self._model, strategy)
        return cast(AnyMetric, self._series[key])

    def observe_finished(
        self, endpoint: str, strategy: str, status: int, tally: Tally, seconds: float
    ) -> None:
        """Record the end of a request that reached the engine.

        ``status`` is that of the outcome, also where a stream had already said 200.
        """
        self.ended(endpoint, strategy, status, tally.finish_reason or NONE, seconds)
        if status == 200 and tally.decode_seconds is not None:
            self._of(self._decode_time, strategy).observe(tally.decode_seconds)
        for choice in tally.choices.values():
            if status == 200 and choice.seconds_per_token is not None:
                self._token_time.labels(self._model, strategy).observe(choice.seconds_per_token)

    def ended(
        self, endpoint: str, strategy: str, status: int, finish_reason: str, seconds: float
    ) -> None:
        """Record the end of a request with what is known of every one."""
        failed = "abort" if status == 499 else "error"
        reason = finish_reason if status == 200 else failed
        self._requests.labels(self._model, strategy, endpoint, str(status), reason).inc()
        self._duration.labels(self._model, strategy).observe(seconds)

    def observe_step(self, report: StepReport) -> None:
        """Record one step of the engine."""
        if report.sequences:
            self._batch_size.observe(report.sequences)
            self._step_duration.observe(report.seconds)
            self._draft_time.inc(report.draft_seconds)
            self._verify_time.inc(report.seconds - report.draft_seconds)
        if report.is_resting:
            self._resting_steps.inc()
        for decision in report.decisions:
            self._observe_decision(decision)
        self._prefix_queries.inc(report.prefix_queries)
        self._prefix_hits.inc(report.prefix_hits)
        self._preemptions.inc(report.preemptions)

    def _observe_decision(self, decision: Decision) -> None:
        self._proposed.inc(decision.proposed)
        self._granted.inc(decision.granted)
        self._expected.inc(decision.expected_tokens)
        self._least_chance.set(decision.least_chance)

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        counter = Counter(f"stride_{name}", text, labels, registry=self.registry)
        return self._remembered(counter, labels)

    def _histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = _BY_STRATEGY
    ) -> Histogram:
        histogram = Histogram(
            f"stride_{name}", text, labels, buckets=buckets, registry=self.registry
        )
        return self._remembered(histogram, labels)

    def _remembered(self, metric: AnyMetric, labels: Sequence[str]) -> AnyMetric:
        if labels == _BY_STRATEGY:
            self._by_strategy.append(metric)
        return metric

    def _define_requests(self) -> None:
        self._requests = self._counter(
            "requests_total",
            "Completion requests by outcome",
            ("model", "strategy", "endpoint", "status", "finish_reason"),
        )
        self._rejections = self._counter(
            "requests_rejected_total", "Requests turned away before the engine", ("reason",)
        )
        self._cancellations = self._counter(
            "requests_cancelled_total", "Requests whose client left", ("phase",)
        )
        self._queue_limit = Gauge(
            "stride_queue_limit",
            "Answers that may be in progress, running and waiting",
            registry=self.registry,
        )
        self._history = self._counter(
            "history_lookups_total", "Requests by what was found of past answers", ("outcome",)
        )
        self._define_choices()
        self._define_times()

    def _define_choices(self) -> None:
        self._choices = self._counter(
            "strategy_choices_total",
            "Requests by strategy and by why it was chosen",
            (*_BY_STRATEGY, "cause"),
        )
        self._fallbacks = self._counter(
            "strategy_fallbacks_total",
            "Answers that a strategy could not give, by which other one gave them",
            (*_BY_STRATEGY, "fallback"),
        )
        self._branch_prompt_tokens = self._counter(
            "branch_prompt_tokens_total", "Prompt tokens of branches", _BY_STRATEGY
        )
        self._branch_shared_tokens = self._counter(
            "branch_shared_tokens_total",
            "Prompt tokens of branches found in the prefix cache",
            _BY_STRATEGY,
        )

    def _define_times(self) -> None:
        self._first_token = self._histogram(
            "time_to_first_token_seconds", "From arrival to the first token", FIRST_TOKEN_BUCKETS
        )
        self._token_gap = self._histogram(
            "inter_token_latency_seconds", "Between emitted chunks of a choice", TOKEN_GAP_BUCKETS
        )
        self._token_time = self._histogram(
            "time_per_output_token_seconds", "Decode time by token of a choice", TOKEN_GAP_BUCKETS
        )
        self._duration = self._histogram(
            "request_duration_seconds", "From arrival to the end", REQUEST_BUCKETS
        )
        self._admission_time = self._histogram(
            "admission_time_seconds", "From arrival to the engine", FIRST_TOKEN_BUCKETS
        )
        self._queue_time = self._histogram(
            "queue_time_seconds", "From arrival at the engine to its work", FIRST_TOKEN_BUCKETS
        )
        self._prefill_time = self._histogram(
            "prefill_time_seconds", "From the engine's work to the first token", FIRST_TOKEN_BUCKETS
        )
        self._decode_time = self._histogram(
            "decode_time_seconds", "From the first token to the last", REQUEST_BUCKETS
        )

    def _define_tokens(self) -> None:
        def by_strategy(name: str, text: str) -> Counter:
            return self._counter(name, text, _BY_STRATEGY)

        self._prompt_tokens = by_strategy("prompt_tokens_total", "Tokens of prompts")
        self._generated = by_strategy("generation_tokens_total", "Tokens of answers")
        self._discarded = by_strategy("discarded_tokens_total", "Tokens drafted and not kept")
        self._decode_steps = by_strategy(
            "decode_steps_total", "Forward passes that produced tokens, once a choice"
        )
        self._drafts = by_strategy("drafts_total", "Steps of a choice with a draft")
        self._drafted = by_strategy("draft_tokens_total", "Tokens drafted")
        self._accepted = by_strategy("accepted_tokens_total", "Tokens drafted and kept")
        self._positions = self._counter(
            "accepted_tokens_per_position_total",
            "Tokens drafted and kept by how deep in the draft they were",
            (*_BY_STRATEGY, "position"),
        )
        self._steps_saved = by_strategy("steps_saved_total", "Forward passes not needed")
        by_source = (*_BY_STRATEGY, "source")
        self._source_drafts = self._counter(
            "source_drafts_total", "Steps of a choice with guesses from this source", by_source
        )
        self._source_drafted = self._counter(
            "source_draft_tokens_total", "Tokens drafted from this source", by_source
        )
        self._source_accepted = self._counter(
            "source_accepted_tokens_total", "Tokens from this source drafted and kept", by_source
        )
        self._step_tokens = self._histogram(
            "accepted_tokens_per_step", "Tokens that one step added to a choice", STEP_TOKEN_BUCKETS
        )

    def _define_budget(self) -> None:
        self._proposed = self._counter(
            "draft_budget_proposed_tokens_total", "Tokens that strategies would have drafted"
        )
        self._granted = self._counter(
            "draft_budget_granted_tokens_total", "Tokens of them worth their price"
        )
        self._expected = self._counter(
            "draft_budget_expected_tokens_total",
            "Tokens expected of the forwards the budget decided about",
        )
        self._least_chance = Gauge(
            "stride_draft_budget_least_chance",
            "Chance of being accepted that a token needs for being drafted now",
            registry=self.registry,
        )
        self._resting_steps = self._counter(
            "draft_resting_steps_total", "Engine steps in which drafting rested: it did not pay"
        )
        self._draft_time = self._counter(
            "draft_time_seconds_total", "Time of engine steps spent on guessing"
        )
        self._verify_time = self._counter(
            "verify_time_seconds_total", "Time of engine steps spent on anything else"
        )

    def _define_engine(self) -> None:
        self._batch_size = self._histogram(
            "batch_size", "Sequences that took part in a step", BATCH_BUCKETS, ()
        )
        self._step_duration = self._histogram(
            "step_duration_seconds", "Duration of an engine step", STEP_BUCKETS, ()
        )
        self._prefix_queries = self._counter(
            "prefix_cache_queries_tokens_total", "Prompt tokens looked up in the prefix cache"
        )
        self._prefix_hits = self._counter(
            "prefix_cache_hits_tokens_total", "Prompt tokens found in the prefix cache"
        )
        self._preemptions = self._counter(
            "preemptions_total", "Sequences that gave their cache blocks back"
        )
        self._loop_lag = self._histogram(
            "event_loop_lag_seconds", "How late the server came to what was due", LAG_BUCKETS, ()
        )

    def _start_at_zero(self, strategies: Sequence[str]) -> None:
        """A series that is absent until its first event cannot be rated or alerted on."""
        for strategy in strategies:
            for metric in self._by_strategy:
                metric.labels(self._model, strategy)
            for position in POSITIONS:
                self._positions.labels(self._model, strategy, position)
            for endpoint in ("chat", "completions"):
                for reason in ("stop", "length"):
                    self._requests.labels(self._model, strategy, endpoint, "200", reason)
        for rejection in get_args(RejectionReason):
            self._rejections.labels(rejection)
        for outcome in get_args(Outcome):
            self._history.labels(outcome)
        for phase in _CANCEL_PHASES:
            self._cancellations.labels(phase)


class _Single(Collector):
    """A metric by itself."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        """Just it."""
        yield self._metric


def stride_version() -> str:
    """The release that runs."""
    try:
        return version("stride")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"
