import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from decoding.report import Cost, EngineInfo
from server import cli
from server.cli import main, warn
from server.settings import Settings, load, option_name
from server.summary import curl, summary

INFO = EngineInfo(
    model="tiny",
    architecture="LlamaForCausalLM",
    dtype="bfloat16",
    device="cpu",
    threads=2,
    parameters=134_515_008,
    vocabulary_size=49152,
    context_length=8192,
    cache_tokens=65536,
    cache_bytes=3 << 30,
    strategies=("autoregressive", "reference"),
    eos_token_ids=(2,),
    bit_exact=True,
    exactness="bit-exact: every lossless strategy gives the tokens of plain decoding",
    load_seconds=1.0,
    resident_bytes=600 << 20,
    kernels="Stride's own (AMX)",
    cost=Cost(by_rows={1: 0.005, 8: 0.006}, per_key=1e-6, per_pair=1e-7, median_error=0.04),
)
URL = "http://127.0.0.1:8000"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("STRIDE_")]:
        monkeypatch.delenv(variable)


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["--version"]])
def test_help_loads_neither_torch_nor_transformers(arguments: list[str]) -> None:
    """They take seconds to import, and help must be there at once."""
    result = python(
        "import sys; from server.cli import main\n"
        f"code = main({arguments})\n"
        "heavy = {'torch', 'transformers', 'fastapi'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    assert result.returncode == 0, result.stderr


def test_resolving_a_model_does_not_load_torch() -> None:
    result = python(
        "import sys; import decoding.models\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert result.returncode == 0, result.stderr


def test_no_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "serve" in capsys.readouterr().out


def test_every_setting_is_an_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["serve", "--help"]) == 0
    words = capsys.readouterr().out.split()
    assert [n for n in Settings.model_fields if option_name(n) not in words] == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["serve", "--prot", "1"], 2, "--prot"),
        (["bogus"], 2, "bogus"),
        (["serve", "--port", "0"], 2, "--port must be at least 1"),
        (["serve", "--dtype", "fp8"], 2, "--dtype must be one of"),
        (["serve", "--config", "missing.toml"], 2, "missing.toml: no such file"),
        (["serve", "--model", "./missing"], 1, "./missing: no such file"),
        (["serve", "--model", "missing.gguf"], 1, "missing.gguf: no such file"),
    ],
)
def test_an_error_is_one_line(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stride: ")
    assert says in line


def test_an_open_server_on_a_public_address_is_warned_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    warn(load(None, {}, {"host": "0.0.0.0", "allow_open": True}))
    assert "no API key is set" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{}, {"host": "0.0.0.0", "api_keys": "key"}])
def test_a_closed_or_local_server_is_not_warned_about(
    options: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    warn(load(None, {}, options))
    assert capsys.readouterr().err == ""


def test_the_summary_says_what_is_served() -> None:
    text = summary(INFO, Settings(), URL, 4.2).plain
    for fact in (
        "ready in 4.2 s",
        "134.5 M parameters",
        "bfloat16 on cpu, 2 threads",
        "65,536 tokens, 3,072 MiB",
        "8,192 tokens",
        "autoregressive, reference",
        INFO.exactness,
        f"{URL}/v1",
        f"{URL}/metrics",
    ):
        assert fact in text


def test_the_curl_line_asks_for_the_name_that_is_served() -> None:
    text = summary(INFO, Settings(served_model_name="mine"), URL, 1.0).plain
    line = next(line for line in text.splitlines() if line.startswith("curl"))
    assert '"model": "mine"' in line
    assert "Authorization" not in line


def test_the_curl_line_takes_the_key_from_the_shell_and_never_shows_it() -> None:
    text = summary(INFO, load(None, {"STRIDE_API_KEYS": "hunter2"}, {}), URL, 1.0).plain
    assert '-H "Authorization: Bearer $STRIDE_API_KEY"' in text
    assert "hunter2" not in text


def test_the_curl_line_survives_a_shell() -> None:
    words = shlex.split(curl(URL, "it's", with_key=False))
    assert words[1] == f"{URL}/v1/chat/completions"
    assert '"model": "it\'s"' in words[-1]


def test_a_piped_summary_has_no_escape_codes(tmp_path: Path) -> None:
    from rich.console import Console

    path = tmp_path / "log"
    with path.open("w") as file:
        Console(file=file, width=40).print(summary(INFO, Settings(), URL, 1.0), soft_wrap=True)
    text = path.read_text()
    assert "\x1b" not in text
    assert any(line.startswith("curl") and line.endswith("'") for line in text.splitlines())


# --- the benchmark ---


def test_the_benchmark_has_options_of_its_own() -> None:
    result = python("from server.cli import main; main(['bench', '--help'])")
    assert result.returncode == 0, result.stderr
    assert "--short" in result.stdout and "--fresh" in result.stdout


def test_the_benchmark_is_given_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    become: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda path, command, env: become.append(command))
    main(["bench", "--short", "--url", "vLLM=http://gpu:8000/v1"])
    assert become[0][-4:] == [
        "benchmarks.side_by_side",
        "--short",
        "--url",
        "vLLM=http://gpu:8000/v1",
    ]


def test_without_a_checkout_there_is_no_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "CHECKOUT", tmp_path)
    assert main(["bench"]) == 1
    assert "needs a checkout" in capsys.readouterr().err
