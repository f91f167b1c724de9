"""Killed between any two steps of any operation, a home is whole, answers on, and takes the operation again."""

import importlib
import pkgutil
import shutil

import pytest

import discovery
import registry
import workers
from discovery import promotion
from registry.artifacts import folder
from tests.support import operations, picture
from workers import sweep
from workers.builder import importing, registering, release_build, releasing, service

PUT = tuple(name for name in folder.FAILPOINTS if name.startswith("store.put."))
STAGE = tuple(name for name in folder.FAILPOINTS if name.startswith("store.stage."))
REFUSALS = ("register.refused", "import.refused")
BUILT = (*release_build.FAILPOINTS, "release.built")

# Every operation, and the failpoints on its way.
REACHED = {
    "register": (
        *STAGE,
        *PUT,
        *service.FAILPOINTS,
        *registering.FAILPOINTS,
        *releasing.FAILPOINTS,
        *release_build.FAILPOINTS,
        *promotion.FAILPOINTS,
    ),
    "register_junk": ("register.refused",),
    "import_fleet": (*service.FAILPOINTS, *importing.FAILPOINTS, *BUILT),
    "import_junk": ("import.refused",),
    "release": (*service.FAILPOINTS, *PUT, *BUILT),
    "promote": promotion.FAILPOINTS,
    "rollback": promotion.FAILPOINTS,
    "gc": (*sweep.FAILPOINTS, "store.delete.unlinked"),
}
CASES = [
    (operation, name)
    for operation, names in REACHED.items()
    for name in names
    if name not in REFUSALS or operation.endswith("junk")
]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    home = tmp_path_factory.mktemp("crashes") / "home"
    operations.build_template(home)
    return home


@pytest.fixture(scope="module")
def uncrashed(template):
    """The picture after each operation that nobody disturbs, and before any (under no name)."""
    pictures = {}
    for operation in (None, *operations.OPERATIONS):
        home = template.with_name(str(operation))
        shutil.copytree(template, home)
        if operation is not None:
            operations.carry_out(home, operation)
        with operations.offline(home) as client:
            pictures[operation] = picture.take(client, home)
    return pictures


def test_every_failpoint_of_every_module_is_tried():
    declared = {
        name
        for package in (registry, discovery, workers)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if ".migrations" not in module.name
        for name in getattr(importlib.import_module(module.name), "FAILPOINTS", ())
    }
    assert declared == {name for _, name in CASES}


@pytest.mark.parametrize(("operation", "failpoint"), CASES)
def test_a_killed_operation_leaves_a_whole_home_and_can_be_repeated(
    template, uncrashed, tmp_path, operation, failpoint
):
    home = tmp_path / "home"
    shutil.copytree(template, home)
    assert operations.exit_code_at(failpoint, home, operation) == -9, f"{operation} never came to {failpoint}"

    picture.check_databases(home)
    with operations.offline(home) as client:
        found = picture.take(client, home)
        for group, answers in found.answers.items():
            assert answers in (uncrashed[None].answers[group], uncrashed[operation].answers[group])
        picture.check_versions(home, found)
        operations.OPERATIONS[operation](client, home)
        picture.await_idle(home)
        repeated = picture.take(client, home)
        assert repeated == uncrashed[operation]
        picture.check_versions(home, repeated)

        operations.gc(client, home)
        picture.check_nothing_leaks(home)
        swept = picture.take(client, home)
        assert swept.answers == repeated.answers
        picture.check_versions(home, swept)
    picture.check_databases(home)
