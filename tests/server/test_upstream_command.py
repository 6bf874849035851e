"""`stride serve --upstream …`: its settings, how it starts, and what it says."""

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from scripted_upstream import KEY, MODEL, Front, ScriptedUpstream
from server_process import running_server

from server.cli import main
from server.settings import Settings, SettingsError, load
from server.upstream.serve import target_of

URL = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("STRIDE_")]:
        monkeypatch.delenv(variable)


def refusal(environment: dict[str, str] | None = None, **options: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(None, environment or {}, options)
    return str(caught.value)


@pytest.mark.parametrize("written", [URL, f"{URL}/", f"{URL}/v1", f"{URL}/v1/"])
def test_an_address_is_taken_with_or_without_its_end(written: str) -> None:
    assert load(None, {}, {"upstream": written}).upstream == URL


@pytest.mark.parametrize("written", ["ftp://x", "x:8000", "http://", "http://u:hunter2@x/v1"])
def test_what_is_no_address_is_refused_and_not_repeated(written: str) -> None:
    line = refusal(upstream=written)
    assert line.startswith("--upstream must be")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"upstream_model": "m"}, "--upstream-model needs an upstream"),
        ({"upstream_retries": "5"}, "--upstream-retries needs an upstream"),
        ({"upstream": URL, "model": "m"}, "--model is for a model here"),
        ({"upstream": URL, "dtype": "fp32"}, "--dtype is for a model here"),
        ({"upstream": URL, "history": "5"}, "--history is for a model here"),
        ({"upstream": URL, "upstream_prefill": "maybe"}, "--upstream-prefill must be one of"),
        ({"upstream": URL, "upstream_timeout": "0"}, "--upstream-timeout must be at least 1"),
    ],
)
def test_contradictions_are_refused(options: dict[str, str], says: str) -> None:
    (line,) = refusal(**options).splitlines()
    assert line.startswith(says)


def test_defaults_written_out_contradict_nothing() -> None:
    default = Path(__file__).parents[2] / "configs" / "default.toml"
    assert load(default, {}, {"upstream": URL}).upstream == URL


def test_a_key_comes_from_the_environment_or_a_file_and_does_not_show(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"# theirs\n{KEY}\n")
    of_file = {"upstream": URL, "upstream_key_file": str(file)}
    for settings in (
        load(None, {"STRIDE_UPSTREAM_KEY": KEY}, {"upstream": URL}),
        load(None, {}, of_file),
    ):
        assert target_of(settings).key == KEY
        assert KEY not in repr(settings) + str(settings) + repr(target_of(settings))
    both = refusal({"STRIDE_UPSTREAM_KEY": KEY}, **of_file)
    assert "both give the upstream's key" in both
    assert "holds what no key can hold" in refusal({"STRIDE_UPSTREAM_KEY": "a\nb"}, upstream=URL)
    file.write_text("\n")
    assert refusal(**of_file) == f"--upstream-key-file: {file} holds no key"


def test_an_upstream_that_does_not_say_its_model_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["serve", "--upstream", URL]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "stride: the upstream cannot be reached: name the one to use by --upstream-model"
    )


async def test_several_models_are_an_error(upstream: ScriptedUpstream) -> None:
    upstream.models = [{"id": "a"}, {"id": "b"}]
    result = await asyncio.to_thread(command, "serve", "--upstream", upstream.url)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "the upstream has 2 models (a, b): name the one" in line


async def test_info_says_what_would_be_served(upstream: ScriptedUpstream) -> None:
    result = await asyncio.to_thread(
        command, "info", "--upstream", upstream.url, STRIDE_UPSTREAM_KEY=KEY
    )
    assert result.returncode == 0, result.stderr
    assert MODEL in result.stdout
    assert "set" in result.stdout
    assert KEY not in result.stdout + result.stderr


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, **environment},
    )


def test_neither_torch_nor_a_tokenizer_is_loaded() -> None:
    code = (
        "import sys, server.upstream.serve\n"
        "sys.exit(str({'torch', 'transformers', 'tokenizers'} & set(sys.modules) or ''))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip() == ""


async def test_it_starts_serves_and_ends(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--upstream", f"{upstream.url}/v1", "--served-model-name", "ours")
    keyed = tmp_path / "key"
    keyed.write_text(KEY)
    started = time.monotonic()
    with running_server(
        tmp_path / "log", *options, "--upstream-key-file", str(keyed), "--log-level", "debug"
    ) as server:
        await asyncio.to_thread(server.wait_until_ready)
        assert time.monotonic() - started < 20  # about one on a quiet machine
        body = {"model": "ours", "messages": [{"role": "user", "content": "hi"}]}
        async with httpx.AsyncClient(base_url=server.url) as http:
            answer = await http.post("/v1/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == "Hello"
        assert answer.json()["model"] == "ours"
        server.process.terminate()
        assert await asyncio.to_thread(server.exit_code, 20) == 0
        log = server.log
    for said in ("Stride is ready", f"{upstream.url}/v1  (reachable)", f"{server.url}/v1", "set"):
        assert said in log
    assert f"curl {server.url}/v1/chat/completions" in log
    assert "Traceback" not in log
    assert KEY not in log


async def test_the_page_names_every_setting_and_the_other_page_every_metric(
    upstream: ScriptedUpstream,
) -> None:
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "upstream.md").read_text(encoding="utf-8")
    settings = [name for name in Settings.model_fields if name.startswith("upstream")]
    assert [name for name in settings if f"`{name}`" not in page] == []
    shown = Front(upstream).metrics.render().decode()
    names = set(re.findall(r"^# TYPE (stride_\w+) \w+$", shown, re.MULTILINE))
    documented = re.findall(r"`(stride_\w+)`", (docs / "metrics.md").read_text(encoding="utf-8"))
    assert {name for name in names if not name.endswith("_created")} - set(documented) == set()
