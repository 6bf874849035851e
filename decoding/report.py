"""What the engine says about itself: once at start-up, and after every step."""

from msgspec import Struct

from decoding.request import Decision, Output


class Cost(Struct, frozen=True, kw_only=True):
    """What a forward costs on this machine, in seconds."""

    by_rows: dict[int, float]  # with so many rows and nothing cached
    per_key: float  # more for each cached key that is read
    per_pair: float  # more for each pair of a row and a key it sees
    median_error: float | None = None  # relative, of the last steps' predictions


class EngineInfo(Struct, frozen=True, kw_only=True):
    """The facts of a loaded engine, for the start-up summary, ``/v1/models`` and ``/metrics``.

    ``bit_exact`` is what the start-up self-check found on this machine: whether every lossless
    strategy, batch and cache state gives bit for bit the tokens of plain decoding. ``exactness``
    says it in a sentence.
    """

    model: str  # what the user named
    architecture: str  # "LlamaForCausalLM"
    dtype: str  # of products: "int8", "bfloat16"
    kernels: str  # whose: "Stride's own (AMX)"
    device: str  # "cpu", "cuda:0"
    threads: int
    parameters: int
    vocabulary_size: int  # width of the logits: token ids at or past it are refused
    context_length: int  # most tokens a prompt and its answer can have together
    cache_tokens: int  # room of the KV cache
    cache_bytes: int
    strategies: tuple[str, ...]
    eos_token_ids: tuple[int, ...]
    bit_exact: bool
    exactness: str
    load_seconds: float
    resident_bytes: int  # of the process, after loading
    cost: Cost | None  # None: not measured


class Pace(Struct, frozen=True, kw_only=True):
    """Tokens a second of whole steps, lately, in batches of about one size."""

    least: int  # sequences
    most: int
    drafting: float  # 0: not measured
    plain: float
    is_resting: bool


class Drafting(Struct, frozen=True, kw_only=True):
    """What the engine has learned about drafts.

    ``corrections`` say for each source how many guesses were accepted for each that was expected
    to be.
    """

    corrections: dict[str, float]
    paces: list[Pace]


class StepReport(Struct, kw_only=True):
    """What one step did, and where the engine stands after it. Counts are of this step alone."""

    outputs: list[Output]
    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0  # share of cache blocks held by live sequences, 0..1
    rows: int = 0  # tokens computed
    sequences: int = 0  # sequences that took part
    seconds: float = 0.0
    prefix_queries: int = 0  # prompt tokens looked up in the prefix cache
    prefix_hits: int = 0
    preemptions: int = 0
    draft_seconds: float = 0.0  # of ``seconds``: guessing, and choosing what is verified
    is_resting: bool = False  # strategies were there, but nobody was asked
    decisions: list[Decision] = []
    # What forwards cost and drafts are worth by now; not in every report.
    cost: Cost | None = None
    drafting: Drafting | None = None
