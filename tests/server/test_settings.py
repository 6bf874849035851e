import re
import tomllib
from pathlib import Path

import pytest

from server.settings import Settings, SettingsError, load

CONFIGS = Path(__file__).parents[2] / "configs"


def write(directory: Path, text: str) -> Path:
    path = directory / "my.toml"
    path.write_text(text)
    return path


def refusal(
    config: Path | None = None,
    environment: dict[str, str] | None = None,
    options: dict[str, object] | None = None,
) -> str:
    with pytest.raises(SettingsError) as caught:
        load(config, environment or {}, options or {})
    return str(caught.value)


def test_default_toml_is_the_defaults() -> None:
    assert load(CONFIGS / "default.toml", {}, {}) == Settings()


def test_default_toml_shows_every_setting_under_its_description() -> None:
    text = (CONFIGS / "default.toml").read_text()
    prose = re.sub(r"\s*\n# ", " ", text)
    for name, field in Settings.model_fields.items():
        assert field.description is not None
        assert re.search(rf"^(# )?{name} = ", text, re.MULTILINE), name
        assert field.description in prose, name


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_config_loads(path: Path) -> None:
    settings = load(path, {}, {})
    assert tomllib.loads(path.read_text()).keys() <= settings.model_dump().keys()


def test_gpu_toml_asks_for_cuda_and_larger_steps() -> None:
    settings = load(CONFIGS / "gpu.toml", {}, {})
    assert (settings.device, settings.dtype) == ("cuda", "bf16")
    assert settings.max_step_tokens > Settings().max_step_tokens


def test_the_environment_wins_over_the_file_and_options_win_over_both(tmp_path: Path) -> None:
    config = write(tmp_path, 'port = 1\nthreads = 1\nhost = "localhost"\n')
    settings = load(config, {"STRIDE_PORT": "2", "STRIDE_THREADS": "2"}, {"port": "3"})
    assert (settings.port, settings.threads, settings.host) == (3, 2, "localhost")


def test_an_empty_variable_counts_as_absent() -> None:
    assert load(None, {"STRIDE_PORT": ""}, {}).port == 8000


def test_other_programs_variables_are_none_of_our_business() -> None:
    assert load(None, {"PORT": "1", "STRIDER": "x"}, {}) == Settings()


def test_an_unknown_key_in_a_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    config = write(tmp_path, "prot = 9000\n")
    assert refusal(config) == f"{config}: unknown setting 'prot'; did you mean 'port'?"


def test_an_unknown_variable_is_refused_with_the_nearest_name() -> None:
    problem = refusal(environment={"STRIDE_CACHE_DIRR": "x"})
    assert problem == "unknown variable 'STRIDE_CACHE_DIRR'; did you mean 'STRIDE_CACHE_DIR'?"


def test_a_name_close_to_nothing_is_refused_without_a_guess(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, "zzzzzz = 1")).endswith("unknown setting 'zzzzzz'")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    assert refusal(missing) == f"{missing}: no such file or directory"


def test_broken_toml_is_refused_with_the_place(tmp_path: Path) -> None:
    problem = refusal(write(tmp_path, "port = \n"))
    assert "not valid TOML" in problem
    assert "line 1" in problem


def test_a_bad_value_is_refused_by_the_name_of_where_it_was_set(tmp_path: Path) -> None:
    config = write(tmp_path, "port = 70000\n")
    assert refusal(config) == f"{config}: port must be at most 65535, not 70000"
    assert refusal(environment={"STRIDE_PORT": "x"}) == (
        "STRIDE_PORT must be a whole number, not 'x'"
    )
    assert refusal(options={"max_running": "0"}) == "--max-running must be at least 1, not '0'"
    assert refusal(options={"dtype": "fp8"}) == (
        "--dtype must be one of 'auto', 'int8', 'bf16' or 'fp32', not 'fp8'"
    )


def test_every_bad_value_gets_its_line() -> None:
    assert len(refusal(options={"port": "x", "threads": "-1"}).splitlines()) == 2


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1


def test_api_keys_are_separated_by_commas() -> None:
    settings = load(None, {"STRIDE_API_KEYS": "one, two,"}, {})
    assert settings.accepted_keys() == ("one", "two")


def test_api_keys_do_not_show_when_settings_are_printed() -> None:
    assert "hunter2" not in repr(load(None, {"STRIDE_API_KEYS": "hunter2"}, {}))


def test_api_keys_do_not_show_in_an_error(tmp_path: Path) -> None:
    assert "hunter2" not in refusal(write(tmp_path, 'api_keys = {secret = "hunter2"}'))
    assert "12345678" not in refusal(write(tmp_path, "api_keys = [12345678]"))


def test_a_key_file_adds_its_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# ours\nalpha\n\n  beta \n")
    settings = load(None, {"STRIDE_API_KEYS": "one"}, {"api_key_file": str(keys)})
    assert settings.accepted_keys() == ("one", "alpha", "beta")


def test_a_key_file_without_a_key_is_refused(tmp_path: Path) -> None:
    """Otherwise the server would be open although its owner believes it is not."""
    keys = tmp_path / "keys"
    assert "no such file" in refusal(options={"api_key_file": str(keys)})
    keys.write_text("# nothing yet\n")
    assert refusal(options={"api_key_file": str(keys)}) == f"--api-key-file: {keys} holds no key"


@pytest.mark.parametrize(
    ("host", "beyond"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("::", True)],
)
def test_an_address_is_known_to_be_reachable_from_elsewhere(host: str, beyond: bool) -> None:
    assert load(None, {}, {"host": host, "allow_open": True}).listens_beyond_this_machine is beyond


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert Settings().cache_dir == Path("/somewhere/stride")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Settings().cache_dir == Path.home() / ".cache" / "stride"


def test_a_tilde_in_a_path_is_the_home_directory() -> None:
    assert load(None, {"STRIDE_CACHE_DIR": "~/models"}, {}).cache_dir == Path.home() / "models"
    assert load(None, {}, {"history_file": "~/past"}).history_file == Path.home() / "past"


def test_past_answers_stay_in_memory_unless_a_file_is_named() -> None:
    """They hold what users wrote."""
    assert Settings().history_file is None


def test_the_history_can_be_turned_off() -> None:
    assert load(None, {"STRIDE_HISTORY": "0"}, {}).history == 0


def test_an_open_address_without_a_key_is_refused_unless_it_is_meant() -> None:
    with pytest.raises(SettingsError, match=r"--host: 0\.0\.0\.0 can be reached from other"):
        load(None, {}, {"host": "0.0.0.0"})
    assert load(None, {}, {"host": "0.0.0.0", "allow_open": True}).allow_open
    assert load(None, {}, {"host": "0.0.0.0", "api_keys": "key"}).accepted_keys() == ("key",)
