"""The container files: sound by their own tools, and closed unless something has to be open."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from server.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

SECRET = re.compile(r"key|password|passwd|secret|token(?!s)|credential", re.IGNORECASE)


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a tool that is installed beside this Python."""
    command = [Path(sys.executable).with_name(name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def instructions(name: str) -> list[str]:
    """What the Dockerfile says in instructions of a name, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE))
    return re.findall(rf"(?m)^{name} +(.*)$", joined)


every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    found = tool("hadolint", ROOT / "Dockerfile")
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("file", sorted(DOCKER.glob("compose*.yaml")), ids=lambda file: file.name)
def test_compose_files_are_valid(file: Path) -> None:
    found = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)
    assert found.returncode == 0, found.stdout


# --- The image ---


def test_the_image_does_not_run_as_root() -> None:
    user, group = map(int, instructions("USER")[-1].split(":"))
    assert user >= 1000
    assert group >= 1000


def test_the_image_adds_nothing_from_the_network_unseen() -> None:
    assert not instructions("ADD")
    assert "curl" not in DOCKERFILE
    assert "wget" not in DOCKERFILE


def test_the_image_holds_no_secrets() -> None:
    names = [re.split(r"[= ]", line)[0] for line in instructions("ARG")]
    names += re.findall(r"(\w+)=", " ".join(instructions("ENV")))
    assert "STRIDE_CACHE_DIR" in names
    assert [name for name in names if SECRET.search(name)] == []


def test_a_base_can_be_given_by_digest_and_has_a_tag() -> None:
    assert instructions("ARG")[0].startswith("BASE=python:3.11")
    assert {line.split()[0] for line in instructions("FROM")} == {"${BASE}"}


def test_the_image_starts_the_server_without_a_shell_and_ends_by_sigterm() -> None:
    assert instructions("ENTRYPOINT") == ['["stride", "serve", "--host", "0.0.0.0"]']
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert "/health" in instructions("HEALTHCHECK")[0]


def test_everything_written_goes_to_the_volume() -> None:
    (volume,) = instructions("VOLUME")
    environment = dict(re.findall(r"(\w+)=(\S+)", " ".join(instructions("ENV"))))
    assert environment["STRIDE_CACHE_DIR"] == volume
    assert environment["HF_HOME"].startswith(f"{volume}/")


def test_the_image_only_sets_settings_that_exist() -> None:
    for name in re.findall(rf"{PREFIX}(\w+)=", " ".join(instructions("ENV"))):
        assert name.lower() in Settings.model_fields


def test_the_image_installs_releases_that_the_project_allows() -> None:
    lines = (DOCKER / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for needed in map(Requirement, project["dependencies"]):
        assert needed.specifier.contains(pinned[canonicalize_name(needed.name)]), needed


def test_what_the_image_copies_is_let_into_the_build_and_little_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = [line.split()[:-1] for line in instructions("COPY") if not line.startswith("--from")]
    assert ignored[1] == "*"
    assert allowed == {source for sources in copied for source in sources}


# --- The services ---


@every_service
def test_only_this_machine_can_connect(service: dict[str, Any]) -> None:
    assert service["ports"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service.get("network_mode") is None


@every_service
def test_a_service_is_confined(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert service["init"] is True
    assert service["restart"] == "unless-stopped"


@every_service
def test_a_service_has_limits(service: dict[str, Any]) -> None:
    assert service["mem_limit"]
    assert service["cpus"]
    assert service["pids_limit"]
    assert all("size=" in mount for mount in service["tmpfs"])
    assert service["logging"]["options"]["max-size"]


@every_service
def test_a_service_tells_whether_it_is_well(service: dict[str, Any]) -> None:
    assert "healthcheck" in service or "build" in service  # the Dockerfile's own
    for condition in service.get("depends_on", {}).values():
        assert condition["condition"] == "service_healthy"


@every_service
def test_an_image_has_a_version(service: dict[str, Any]) -> None:
    assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def environments() -> Iterator[tuple[str, str, str]]:
    for file in sorted(DOCKER.glob("compose*.yaml")):
        for name, service in yaml.safe_load(file.read_text())["services"].items():
            for variable, value in service.get("environment", {}).items():
                yield name, variable, value


def test_no_secret_is_written_down() -> None:
    secrets = [
        (service, variable, value)
        for service, variable, value in environments()
        if SECRET.search(variable) and not variable.endswith("_FILE")
    ]
    assert {value for _, _, value in secrets} == {"${STRIDE_API_KEYS:-}"}


def test_grafana_has_no_password_and_no_login() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_the_server_is_open_only_where_one_machine_reaches_it() -> None:
    """The image itself refuses to serve without keys; the services are published on loopback."""
    assert "ALLOW_OPEN" not in " ".join(instructions("ENV"))
    assert "ALLOW_OPEN" not in (DOCKER / "stride.env").read_text()
    assert SERVICES["stride"]["environment"]["STRIDE_ALLOW_OPEN"] == "true"


def test_settings_of_the_services_exist() -> None:
    given = re.findall(rf"(?m)^(?:# )?{PREFIX}(\w+)=", (DOCKER / "stride.env").read_text())
    given += [name.removeprefix(PREFIX) for _, name, _ in environments() if PREFIX in name]
    assert "MODEL" in given
    assert [name for name in given if name.lower() not in Settings.model_fields] == []


@every_service
def test_volumes_are_declared_and_bound_files_exist(service: dict[str, Any]) -> None:
    for volume in service["volumes"]:
        if isinstance(volume, str):
            assert volume.split(":")[0] in COMPOSE["volumes"]
            continue
        assert volume["read_only"] is True
        assert (DOCKER / volume["source"]).exists()


def test_grafana_finds_prometheus_and_the_board_where_they_are() -> None:
    provisioning = DOCKER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "stride.yaml").read_text())[
        "providers"
    ]
    mounted = [bound["target"] for bound in SERVICES["grafana"]["volumes"] if "target" in bound]
    assert provider["options"]["path"] in mounted


def test_prometheus_finds_stride_and_its_rules() -> None:
    file = DOCKER / "prometheus" / "prometheus.yml"
    configuration = yaml.safe_load(file.read_text())
    (job,) = configuration["scrape_configs"]
    assert job["static_configs"][0]["targets"] == ["stride:8000"]
    assert all((file.parent / rules).exists() for rules in configuration["rule_files"])


def test_the_gpu_has_a_profile_of_its_own_and_is_found_in_the_same_place() -> None:
    gpu = SERVICES["stride-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["networks"]["default"]["aliases"] == ["stride"]
    assert gpu["build"]["args"]["COMPILER"] == "none"
    assert "profiles" not in SERVICES["stride"]


# --- The page about them ---

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


def test_settings_named_on_the_page_exist() -> None:
    named = set(re.findall(rf"{PREFIX}([A-Z_]+)", PAGE))
    assert "CACHE_TOKENS" in named
    assert [name for name in sorted(named) if name.lower() not in Settings.model_fields] == []


def test_variables_named_on_the_page_are_read() -> None:
    compose = "".join(file.read_text() for file in DOCKER.glob("compose*.yaml"))
    for name in ("API_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "MEMORY", "CPUS", "KEY_FILE"):
        assert f"`{name}`" in PAGE or f"{name}=" in PAGE
        assert f"${{{name}:" in compose


def test_services_and_build_arguments_named_on_the_page_exist() -> None:
    arguments = {re.split(r"[= ]", line)[0] for line in instructions("ARG")}
    assert set(re.findall(r"(?m)^\| `([A-Z_]+)` \|", PAGE)) == arguments
    for services in re.findall(r"--wait ([a-z -]+)$", PAGE, re.MULTILINE):
        assert set(services.split()) <= SERVICES.keys()
