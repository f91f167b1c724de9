"""A house on one machine: its services have names and homes of their own, and what they are told is what they get."""

import pytest

from deploy.local.house import House, Kind
from tests.support.deployed import parsed_command, settings_of
from tests.support.installed import needed


@pytest.fixture
def house(tmp_path):
    """Of two kinds of worker and a builder; nothing of it runs."""
    kinds = (Kind("worker", 2, processes=3, settings={"MANYMODELS_LOAD_THREADS": "4"}), Kind("builder", listens=False))
    given = {"MANYMODELS_STALE_DAYS": "7"}
    made = needed(lambda: House(tmp_path, services=kinds, members="postgresql", settings=given))
    yield made
    made.kill()


def command(service):
    return parsed_command(service._command()[3:])


def told(service):
    """The settings of a service; what tests alone are told is none."""
    found = service._environment().items()
    return settings_of({name: value for name, value in found if not name.startswith("MANYMODELS_TEST_")})


def test_services_are_numbered_through_and_each_has_a_home_of_its_own(house):
    [added] = house.add(Kind("worker"))
    assert [service.name for service in house.services] == ["worker-1", "worker-2", "builder-1", "worker-3"]
    assert house["worker-3"] is added
    assert len({command(service)[1]["home"] for service in house.services}) == 4


def test_services_run_commands_there_are(house):
    for service in house.services:
        name, options = command(service)
        assert name == service.kind.command
        assert options["json"]
    assert command(house["worker-1"])[1]["processes"] == 3


def test_services_meet_in_one_place_and_have_their_own_settings_beside(house):
    house.add(Kind("worker"))
    found = [told(service) for service in (*house.of("worker"), *house.of("builder"))]
    assert len({(each.registry, each.artifacts, each.membership) for each in found}) == 1
    assert [each.load_threads for each in found] == [4, 4, settings_of({}).load_threads, settings_of({}).load_threads]
    assert {each.stale_days for each in found} == {7}
