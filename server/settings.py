"""The one structure of settings, and how it is filled.

Defaults, then a TOML file, then ``STRIDE_*`` variables, then command line options: the later
wins. A name or a value that cannot be honoured is refused, with the place it came from.
"""

import difflib
import ipaddress
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_core import ErrorDetails

from decoding import strategies
from decoding.options import default_cache_dir
from decoding.request import OptionValue
from server.wordings import Wordings

PREFIX = "STRIDE_"
SECRETS = ("api_keys", "upstream", "upstream_key")  # an address may hold a password


class SettingsError(Exception):
    """Settings that cannot be honoured; one line for each, naming where it was set."""


def split_at_commas(value: object) -> object:
    """Allow a list to be written as one string, for the environment and the command line."""
    if not isinstance(value, str):
        return value
    return tuple(item for item in map(str.strip, value.split(",")) if item)


def check_strategy_options(written: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse options of strategies that cannot be honoured."""
    for option in written:
        strategies.parse(option)
    return written


def check_wordings(directory: Path) -> Path:
    """Refuse wordings that cannot be used."""
    if not directory.is_dir():
        raise ValueError("no such directory")
    Wordings(directory)
    return directory


def http_address(url: str) -> str:
    """The address, if it is one."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address that begins with http:// or https://")
    return url


def base_of(url: str) -> str:
    """The address of a server, without what every such address ends with."""
    parts = urlsplit(http_address(url))
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("an address alone: a key goes into upstream_key")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def setting(
    default: Any, description: str, *, group: str, metavar: str | None = None, **limits: Any
) -> Any:
    """Describe a setting once, for ``--help``, the documentation and the error messages."""
    key = "default_factory" if callable(default) else "default"
    extra = {"group": group, "metavar": metavar}
    limits |= {key: default, "json_schema_extra": extra}
    return Field(description=description, **limits)


UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
CommaSeparated = BeforeValidator(split_at_commas)

MODEL, SERVER, HARDWARE, ENGINE = "Model", "Server", "Hardware", "Engine"
LOAD, HISTORY, ACCESS, UPSTREAM = "Load", "History", "Access", "Upstream"


class Settings(BaseModel):
    """Everything that can be configured: flat, typed, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    model: str = setting(
        "SmolLM2-135M-Instruct",
        "The model: a Hugging Face hub name, a local directory, or a .gguf file.",
        group=MODEL,
        metavar="NAME|PATH|GGUF",
        min_length=1,
    )
    served_model_name: str | None = setting(
        None,
        "The name clients ask for; by default the model's own.",
        group=MODEL,
        metavar="NAME",
        min_length=1,
    )
    context_length: int = setting(
        0,
        "Most tokens a prompt and its answer have together; 0 means all the model allows.",
        group=MODEL,
        ge=0,
    )
    consistency_trained: bool = setting(
        False,
        "The model was trained to correct blocks of guesses (CLLM): auto decodes by jacobi.",
        group=MODEL,
    )
    cache_dir: UserPath = setting(
        default_cache_dir,
        "Where converted models and compiled kernels are kept.",
        group=MODEL,
        metavar="DIRECTORY",
    )

    host: str = setting("127.0.0.1", "The address to listen on.", group=SERVER, min_length=1)
    port: int = setting(8000, "The port to listen on.", group=SERVER, ge=1, le=65535)
    max_body_bytes: int = setting(
        4 * 1024 * 1024, "Largest request body accepted, in bytes.", group=SERVER, ge=1024
    )
    drain_seconds: int = setting(
        30,
        "Time that answers in progress have to finish once a signal ends it.",
        group=SERVER,
        ge=0,
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "How much is logged.", group=SERVER
    )
    traces_endpoint: Annotated[str, AfterValidator(http_address)] | None = setting(
        None,
        "Where OpenTelemetry spans are sent, by OTLP over HTTP; without it there are none.",
        group=SERVER,
        metavar="URL",
    )

    dtype: Literal["auto", "int8", "bf16", "fp32"] = setting(
        "auto",
        "Number format of weights; auto is int8 on a CPU with instructions for it, else bf16.",
        group=HARDWARE,
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "Where the model runs; auto is CUDA where there is a GPU.", group=HARDWARE
    )
    threads: int = setting(
        0,
        "CPU threads of a worker; 0 means every physical core this process may use, divided among "
        "workers.",
        group=HARDWARE,
        ge=0,
    )
    workers: int = setting(
        1,
        "Engines side by side, each in a process of its own; on CUDA each has a device of its own.",
        group=HARDWARE,
        ge=1,
        le=64,
    )
    cache_tokens: int = setting(
        0,
        "Tokens the KV cache has room for; 0 chooses by the memory available.",
        group=HARDWARE,
        ge=0,
    )

    max_step_tokens: int = setting(
        512, "Most tokens computed in one forward pass.", group=ENGINE, ge=16
    )
    max_running: int = setting(64, "Most sequences decoded side by side.", group=ENGINE, ge=1)
    max_choices: int = setting(16, "Most answers one prompt may ask for (n).", group=ENGINE, ge=1)
    prefix_cache: bool = setting(
        True, "Share the KV cache between prompts that begin alike.", group=ENGINE
    )
    self_check: bool = setting(
        True, "Test at start-up whether answers are bit-exact on this machine.", group=ENGINE
    )

    strategy_options: Annotated[
        tuple[str, ...], CommaSeparated, AfterValidator(check_strategy_options)
    ] = setting(
        (),
        "Defaults of strategies' options, separated by commas: reference.copy=16 and the like.",
        group=ENGINE,
        metavar="STRATEGY.OPTION=VALUE,…",
    )

    lossless_only: bool = setting(
        False,
        "Give only answers of plain decoding: never by skeleton, asked for or not.",
        group=ENGINE,
    )
    skeleton_beside: int = setting(
        1,
        "From so many requests in progress on, auto no longer answers list questions by skeleton; "
        "0 means never.",
        group=ENGINE,
        ge=0,
    )
    wordings: Annotated[UserPath, AfterValidator(check_wordings)] | None = setting(
        None,
        "A directory of files that say how skeleton asks, one a language, beside our own.",
        group=ENGINE,
        metavar="DIRECTORY",
    )

    max_requests: int = setting(
        256, "Most answers in progress, running and waiting; more are refused.", group=LOAD, ge=1
    )
    max_requests_per_key: int = setting(
        0, "The same for each API key; 0 means no limit of its own.", group=LOAD, ge=0
    )
    first_token_seconds: float = setting(
        30.0,
        "Longest time that reading all waiting prompts may take; more are refused.",
        group=LOAD,
        gt=0,
    )

    history: int = setting(
        1000,
        "Past answers remembered per tenant, as drafts for repeated questions; 0 turns it off.",
        group=HISTORY,
        ge=0,
    )
    history_file: UserPath | None = setting(
        None,
        "Where past answers are kept between runs; they hold what users wrote.",
        group=HISTORY,
        metavar="FILE",
    )

    api_keys: Annotated[tuple[SecretStr, ...], CommaSeparated] = setting(
        (),
        "Keys clients must present, separated by commas; none means no key is needed. "
        "Others can read a command line: prefer STRIDE_API_KEYS or a file.",
        group=ACCESS,
        metavar="KEY,…",
    )
    api_key_file: UserPath | None = setting(
        None, "A file of such keys, one a line.", group=ACCESS, metavar="FILE"
    )

    allow_open: bool = setting(
        False,
        "Listen on an address that other machines reach although no API key is set.",
        group=ACCESS,
    )

    upstream: Annotated[str, AfterValidator(base_of)] | None = setting(
        None,
        "Another OpenAI-compatible server that answers, in place of a model here.",
        group=UPSTREAM,
        metavar="URL",
    )
    upstream_model: str | None = setting(
        None,
        "The model to ask it for; needed unless it serves just one.",
        group=UPSTREAM,
        metavar="NAME",
        min_length=1,
    )
    upstream_key: SecretStr | None = setting(
        None,
        "The key it wants. Others can read a command line: prefer STRIDE_UPSTREAM_KEY or a file.",
        group=UPSTREAM,
        metavar="KEY",
    )
    upstream_key_file: UserPath | None = setting(
        None, "A file with that key.", group=UPSTREAM, metavar="FILE"
    )
    upstream_prefill: Literal["auto", "words", "continue", "vllm"] = setting(
        "auto",
        "How it learns how a text begins: told in words, by an unfinished message to continue, or "
        "by one with vLLM's fields; auto asks it who it is.",
        group=UPSTREAM,
    )
    upstream_parallel: int = setting(
        8, "Most calls at once for one request.", group=UPSTREAM, ge=1, le=64
    )
    upstream_connections: int = setting(
        64, "Most calls at once for all requests.", group=UPSTREAM, ge=1
    )
    upstream_timeout: int = setting(
        600, "Seconds after which a request is given up, retries included.", group=UPSTREAM, ge=1
    )
    upstream_retries: int = setting(
        2, "How often a call that failed before it began is tried again.", group=UPSTREAM, ge=0
    )

    @property
    def listens_beyond_this_machine(self) -> bool:
        """Whether other machines can connect."""
        return not is_loopback(self.host)

    def options_of_strategies(self) -> dict[str, dict[str, OptionValue]]:
        """The options that requests need not name, by strategy."""
        given: dict[str, dict[str, OptionValue]] = {}
        for name, option, value in map(strategies.parse, self.strategy_options):
            given.setdefault(name, {})[option] = value
        return given

    def accepted_keys(self) -> tuple[str, ...]:
        """All keys that open the server, the file's included; empty means it is open."""
        keys = [key.get_secret_value() for key in self.api_keys]
        return (*keys, *keys_in(self.api_key_file))

    def key_of_upstream(self) -> str | None:
        """The key for the upstream, from wherever it is kept."""
        if self.upstream_key is not None:
            return self.upstream_key.get_secret_value()
        return next(iter(keys_in(self.upstream_key_file)), None)


def load(
    config: Path | None,
    environment: Mapping[str, str],
    options: Mapping[str, object],
) -> Settings:
    """Fill the settings from a TOML file, the environment and command line options."""
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for name, value, origin in (
        *from_file(config),
        *from_environment(environment),
        *((name, value, option_name(name)) for name, value in options.items()),
    ):
        values[name] = value
        origins[name] = origin
    try:
        settings = Settings.model_validate(values)
    except ValidationError as problem:
        raise SettingsError(
            "\n".join(explain(error, origins) for error in problem.errors())
        ) from None
    require_keys_in_file(settings, "api_key_file", origins)
    require_keys_in_file(settings, "upstream_key_file", origins)
    refuse_to_be_open(settings, origins)
    refuse_contradictions(settings, origins)
    return settings


def from_file(config: Path | None) -> Iterator[tuple[str, object, str]]:
    """Read names and values from a TOML file."""
    if config is None:
        return
    try:
        table = tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as problem:
        raise SettingsError(f"{config}: {(problem.strerror or str(problem)).lower()}") from None
    except ValueError as problem:
        raise SettingsError(f"{config}: not valid TOML: {problem}") from None
    for name, value in table.items():
        require_known(name, name, f"{config}: unknown setting")
        yield name, value, f"{config}: {name}"


def from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    """Read names and values from ``STRIDE_*``; an empty variable counts as absent."""
    for variable, value in environment.items():
        if variable.startswith(PREFIX) and value:
            name = variable.removeprefix(PREFIX).lower()
            require_known(name, variable, "unknown variable", variable_name)
            yield name, value, variable


def require_known(name: str, written: str, complaint: str, spell: Any = str) -> None:
    """Refuse a name that is no setting, suggesting the one that was probably meant."""
    if name in Settings.model_fields:
        return
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    hint = f"; did you mean {spell(close[0])!r}?" if close else ""
    raise SettingsError(f"{complaint} {written!r}{hint}")


def variable_name(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def option_name(name: str) -> str:
    """The command line option of a setting."""
    return "--" + name.replace("_", "-")


def explain(error: ErrorDetails, origins: Mapping[str, str]) -> str:
    """Say in one line what is wrong with one value; a secret is never repeated."""
    name = str(error["loc"][0])
    value = "" if name in SECRETS else f", not {error['input']!r}"
    return f"{origins.get(name, name)} must be {requirement(error)}{value}"


def requirement(error: ErrorDetails) -> str:
    """What a value has to be, as the end of a sentence that begins with "must be"."""
    limits = error.get("ctx", {})
    match error["type"]:
        case "greater_than_equal":
            return f"at least {limits['ge']}"
        case "less_than_equal":
            return f"at most {limits['le']}"
        case "literal_error":
            return f"one of {limits['expected']}"
        case "int_parsing" | "int_type" | "int_from_float":
            return "a whole number"
        case "bool_parsing" | "bool_type":
            return "true or false"
        case "string_type" | "string_too_short":
            return "a text that is not empty"
        case "path_type":
            return "a path"
        case "tuple_type":
            return "a list"
        case _:
            return f"valid ({error['msg'].lower()})"


def require_keys_in_file(settings: Settings, name: str, origins: Mapping[str, str]) -> None:
    """Refuse a key file that yields no key: the server would be open without anyone knowing."""
    path: Path | None = getattr(settings, name)
    if path is None:
        return
    origin = origins[name]
    try:
        keys = keys_in(path)
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "not a text file"
        raise SettingsError(f"{origin}: {path}: {str(reason).lower()}") from None
    if not keys:
        raise SettingsError(f"{origin}: {path} holds no key")


def refuse_to_be_open(settings: Settings, origins: Mapping[str, str]) -> None:
    """Refuse an address that others reach if anybody there could use the server."""
    if settings.listens_beyond_this_machine and not (
        settings.accepted_keys() or settings.allow_open
    ):
        raise SettingsError(
            f"{origins['host']}: {settings.host} can be reached from other machines and no API key "
            "is set: set STRIDE_API_KEYS or --api-key-file, or --allow-open if anyone there may "
            "use this server"
        )


def refuse_contradictions(settings: Settings, origins: Mapping[str, str]) -> None:
    """Refuse what says something of an upstream without one, or of a model here beside one."""
    if settings.upstream is None:
        for name in changed(settings, [UPSTREAM]):
            raise SettingsError(f"{origins[name]} needs an upstream: say which one by --upstream")
        return
    for name in changed(settings, [MODEL, HARDWARE, LOAD, HISTORY]):
        if name != "served_model_name":
            raise SettingsError(
                f"{origins[name]} is for a model here, but the upstream {settings.upstream} is to "
                "answer: leave one of them out"
            )
    if settings.upstream_key is not None and settings.upstream_key_file is not None:
        origin, other = origins["upstream_key"], origins["upstream_key_file"]
        raise SettingsError(f"{origin} and {other} both give the upstream's key: leave one out")
    key = settings.key_of_upstream() or "none"
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingsError("the upstream's key holds what no key can hold: blanks or other marks")


def changed(settings: Settings, groups: Iterable[str]) -> Iterator[str]:
    """The settings of these groups that are not at their defaults."""
    defaults = Settings()
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        is_asked = isinstance(extra, Mapping) and str(extra["group"]) in groups
        if is_asked and getattr(settings, name) != getattr(defaults, name):
            yield name


def keys_in(path: Path | None) -> tuple[str, ...]:
    """Read keys, one a line; empty lines and lines starting with # are skipped."""
    if path is None:
        return ()
    lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
