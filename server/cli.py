"""The ``stride`` command. Nothing here imports torch, so that ``--help`` is there at once."""

import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape

from server.settings import Settings, SettingsError, load, option_name

if TYPE_CHECKING:
    from decoding.models import ModelFiles

FAILED, MISUSED = 1, 2
CHECKOUT = Path(__file__).parents[1]

app = typer.Typer(
    help="An OpenAI-compatible inference server that answers in fewer forward passes.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; every error is one line on standard error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return int(app(arguments or ["--help"], prog_name="stride", standalone_mode=False) or 0)
    except typer.TyperException as problem:
        return complain(problem.format_message(), MISUSED)
    except SettingsError as problem:
        return complain(str(problem), MISUSED)


def complain(message: str, code: int) -> int:
    """Print each line of the message after the program's name, and return the exit code."""
    for line in message.splitlines():
        sys.stderr.write(f"stride: {line}\n")
    return code


def print_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from server.metrics import stride_version

        sys.stdout.write(f"stride {stride_version()}\n")
        raise typer.Exit


@app.callback(epilog="Start with [bold]stride serve[/bold]; its options: stride serve --help")
def stride(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=print_version,
            is_eager=True,
            metavar="",
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Take the options that come before a command."""


def serve(config: Path | None = None, **options: object) -> int:
    """Serve a model over HTTP until interrupted."""
    from decoding.models import ModelError

    settings = settings_from(config, options)
    warn(settings)
    if settings.upstream is not None:
        from server.upstream.serve import serve as serve_upstream

        return serve_upstream(settings)
    try:
        model = resolved(settings)
    except ModelError as problem:
        return complain(str(problem), FAILED)
    # Imported only now: the application takes a second that an error need not wait for.
    from server.serve import serve as run

    return run(settings, model)


def info(config: Path | None = None, **options: object) -> int:
    """Load a model and say what that takes here: memory, exactness, the cost of a forward."""
    from decoding.models import ModelError

    settings = settings_from(config, options)
    if settings.upstream is not None:
        from server.upstream.serve import show as show_upstream

        return show_upstream(settings)
    try:
        model = resolved(settings)
    except ModelError as problem:
        return complain(str(problem), FAILED)
    from server.inspection import show

    return show(settings, model)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,  # the benchmark has options of its own, and says so itself
    help="Measure Stride and other servers side by side (in a checkout); options: bench --help.",
)
def bench(context: typer.Context) -> int:
    """Become the benchmark, which is no part of what is installed: it lives in the checkout."""
    if not (CHECKOUT / "benchmarks" / "side_by_side").is_dir():
        return complain(
            "the benchmark needs a checkout of Stride, installed with --editable", FAILED
        )
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    # -P: what lies in the user's directory is not imported by accident.
    command = [sys.executable, "-P", "-m", "benchmarks.side_by_side", *context.args]
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})


def settings_from(config: Path | None, options: Mapping[str, object]) -> Settings:
    """The settings of a command: file, environment, options."""
    given = {name: value for name, value in options.items() if value is not None}
    return load(config, os.environ, given)


def resolved(settings: Settings) -> "ModelFiles":
    """The model's files, fetched and converted if that has not been done."""
    from decoding.models import progress_on, resolve

    progress = progress_on(Console(stderr=True))
    return resolve(settings.model, cache=settings.cache_dir, progress=progress)


def warn(settings: Settings) -> None:
    """Say what is allowed but should be thought about."""
    if settings.listens_beyond_this_machine and not settings.accepted_keys():
        complain(
            f"warning: {settings.host} can be reached from other machines and no API key is set: "
            "anyone there can use this server, as --allow-open says",
            0,
        )


def signature_of_command() -> inspect.Signature:
    """The signature a command would have if every setting were written out as an option."""
    config = Annotated[
        Path | None,
        typer.Option("--config", "-c", help="A TOML file of settings.", metavar="FILE"),
    ]
    annotations: dict[str, Any] = {"config": config}
    annotations |= {name: option(name, field) for name, field in Settings.model_fields.items()}
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            inspect.Parameter(name, keyword, default=None, annotation=annotation)
            for name, annotation in annotations.items()
        ]
    )


def option(name: str, field: FieldInfo) -> Any:
    """The option for one setting. Values are checked by the settings, whoever gives them."""
    extra = extra_of(field)
    flag = option_name(name)
    is_switch = field.annotation is bool
    return Annotated[
        bool | None if is_switch else str | None,
        typer.Option(
            f"{flag}/--no-{flag[2:]}" if is_switch else flag,
            help=help_text(field),
            metavar="" if is_switch else extra["metavar"] or metavar(field.annotation),
            rich_help_panel=extra["group"],
            show_default=False,
        ),
    ]


def extra_of(field: FieldInfo) -> Mapping[str, Any]:
    """What a setting says about itself beyond its type."""
    extra = field.json_schema_extra
    return extra if isinstance(extra, Mapping) else {}


def help_text(field: FieldInfo) -> str:
    """The description and, where there is one, the default."""
    default = field.get_default(call_default_factory=True, validated_data={})
    text = escape(field.description or "")
    if default in (None, ()):
        return text
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    shown = shown.replace(str(Path.home()), "~")
    return f"{text} [dim]{escape(f'[{shown}]')}[/dim]"


def metavar(annotation: Any) -> str:
    """What to write in place of a value: its choices, or its kind."""
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    return "N" if annotation is int else "TEXT"


def register() -> None:
    """Make ``serve`` and ``info`` commands with one option a setting."""
    for command in (serve, info):
        command.__signature__ = signature_of_command()  # type: ignore[attr-defined]
        command.__annotations__ = {}
        app.command(
            epilog="Every setting is also a key of the TOML file and an environment variable: "
            "--max-running is max_running and STRIDE_MAX_RUNNING. Options win over variables, "
            "variables over the file.",
        )(command)


register()

if __name__ == "__main__":
    sys.exit(main())
