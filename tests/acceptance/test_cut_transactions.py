"""A transaction that is cut leaves the old or the new state, never half: after any statement of any write of the
registry the connection to PostgreSQL is ended, the caller is told to try again, and trying again ends well.
"""

from contextlib import closing
from dataclasses import asdict, is_dataclass

import pytest

from manymodels.errors import ApiError
from registry.assignments import store_assignment
from registry.database import migrate
from registry.deployments import flip, unwant, want
from registry.errors import DatabaseBusyError
from registry.groups import create_group, delete_group, place_group
from registry.holds import drop_hold, put_hold
from registry.imports import Reject, checkpoint, create_import, fail_import, finish_import, publish
from registry.records import Deployment
from registry.releases import begin_release, fail_release, finish_release
from registry.retention import drop_versions, purge_groups, retire_releases
from registry.tasks import claim, enqueue, enqueue_auto_release, fail, finish, get_task, prune
from registry.versions import add_versions, delete_key
from tests.support.builders import GROUP, BuilderHome
from tests.support.constant import SIGNATURE as CONSTANT
from tests.support.constant import constant, fleet_file
from tests.support.cutting import WITHOUT_STANDBY, contents, cut_after, cut_at_commit, put_back, rows_of
from tests.support.operations import offline
from tests.support.postgres import postgres
from tests.support.registries import NOW, SCHEMA, SIGNATURE, Registry, artifact, digest
from workers.builder.service import BuilderService

LIVE, READY, BUILDING = 2, 3, 4
WAITING, EMPTY = 1, 2  # imports: with rows to publish, and without
DONE, RUNNING = 1, 2  # tasks
MOST_STATEMENTS = 30
MODELS = {"store=5/brand=a": "new", "store=1/brand=a": "newer", "brand=a": "fallback", "store=3/brand=a": "third"}


def key(text):
    return SCHEMA.parse_text(text)


def models():
    return [artifact(key(text), what, tags={"by": "ann"}) for text, what in MODELS.items()]


def fill(registry):
    """Something of everything that the operations below meet."""
    with registry.database.write() as conn:
        for number, run in ((DONE, finish), (RUNNING, None)):
            assert enqueue(conn, "prove", "oj", {"staged": str(number)}, NOW) == number
            task = claim(conn, "builder", ["builder"], ["prove"], NOW)
            if run is not None:
                run(conn, task, {}, NOW)
        for name, number in (("waiting", WAITING), ("empty", EMPTY)):
            item = create_import(conn, "oj", source=name, digest=name, on_error="skip", runtime=None, now=NOW)
            assert item.number == number
        note(conn, WAITING, "early")
        store_assignment(conn, "default", 0, '{"first": 1}')
    for number in (1, LIVE, READY):
        registry.add_all({f"store={store}/brand=a": f"{number} of {store}" for store in range(1, 4)})
        assert registry.release() == number
        if number <= LIVE:
            registry.flip(number)
    registry.add("store=4/brand=a", "fourth")
    assert registry.begin().number == BUILDING
    hold(registry)
    for name in ("gone", "many"):
        with registry.database.write() as conn:
            registry.group = create_group(conn, name, SCHEMA, SIGNATURE, auto_release=False, now=NOW)
        for number in range(1, 13 if name == "many" else 2):
            registry.add("store=1/brand=a", f"{name} {number}", tags={"n": str(number)})
            registry.release()
        registry.flip(number)
    with registry.database.write() as conn:
        delete_group(conn, "gone", confirm="gone")


def hold(registry):
    with registry.database.write() as conn:
        want(conn, "oj", READY, NOW + 60)
        freeze(conn)


def freeze(conn, **more):
    changed = {"action": "freeze", "version": None, "reason": "", "author": "ann", "until": None, "now": NOW} | more
    return put_hold(conn, "oj", key("store=2/brand=a"), **changed)


def note(conn, number, what):
    """A checkpoint of two rows that are proved, and one that is rejected."""
    rows = [(0, artifact(key("store=8/brand=a"), what)), (1, artifact(key("store=9/brand=a"), what))]
    rejects = [Reject(2, None, "artifact_invalid", what, "model")]
    checkpoint(conn, "oj", number, staged=rows, rejects=rejects, rows=3, proved=2)


def move(conn, number):
    return flip(conn, "oj", {"blue": Deployment("blue", number, 100)}, if_match=None, author="ann", now=NOW)


def finish_building(conn, *, blocked):
    built = {"manifest": digest("manifest"), "models": 3, "size": 10, "report": {"added": 1}, "now": NOW}
    failed = [key("store=4/brand=a")]
    return finish_release(conn, "oj", BUILDING, **built, blocked=blocked, failed=failed)


def begin(conn, named=None):
    return begin_release(conn, "oj", base=None, named=named, gates={"max_lost": 1}, now=NOW)


NAMED = [(key("store=1/brand=a"), 1), (key("store=3/brand=a"), 2)]
OPERATIONS = {
    "create_group": lambda conn: create_group(conn, "new", SCHEMA, SIGNATURE, auto_release=True, now=NOW),
    "place_group": lambda conn: place_group(conn, "oj", replicas=3, pool="fast"),
    "delete_group": lambda conn: delete_group(conn, "oj", confirm="oj"),
    "add_versions": lambda conn: add_versions(conn, "oj", models(), NOW),
    "delete_key": lambda conn: delete_key(conn, "oj", key("store=1/brand=a"), NOW),
    "begin_release": begin,
    "begin_named_release": lambda conn: begin(conn, NAMED),
    "finish_release": lambda conn: finish_building(conn, blocked=False),
    "block_release": lambda conn: finish_building(conn, blocked=True),
    "fail_release": lambda conn: fail_release(conn, "oj", BUILDING, {"error": "no"}, NOW),
    "promote": lambda conn: (move(conn, READY), unwant(conn, "oj", READY)),
    "rollback": lambda conn: move(conn, 1),
    "want": lambda conn: want(conn, "oj", READY, NOW + 90),
    "put_hold": lambda conn: freeze(conn, action="pin", version=1),
    "drop_hold": lambda conn: drop_hold(conn, "oj", key("store=2/brand=a")),
    "create_import": lambda conn: create_import(
        conn, "oj", source="s", digest="d", on_error="fail", runtime=None, now=NOW
    ),
    "checkpoint": lambda conn: note(conn, EMPTY, "late"),
    "publish": lambda conn: publish(conn, "oj", WAITING, 10, NOW),
    "finish_import": lambda conn: finish_import(conn, "oj", EMPTY, release=READY, now=NOW),
    "fail_import": lambda conn: fail_import(conn, "oj", WAITING, {"code": "c"}, NOW),
    "enqueue": lambda conn: (enqueue(conn, "release", "oj", {"release": BUILDING}, NOW), None)[1],
    "enqueue_auto_release": lambda conn: (enqueue_auto_release(conn, "oj", NAMED, NOW), None)[1],
    "claim": lambda conn: claim(conn, "other", ["other"], ["prove"], NOW),
    "finish": lambda conn: finish(conn, get_task(conn, RUNNING), {"version": 1}, NOW),
    "fail": lambda conn: fail(conn, get_task(conn, RUNNING), {"code": "c"}, NOW),
    "prune": lambda conn: prune(conn, NOW + 1),
    "retire_releases": lambda conn: retire_releases(conn, "many", range(1, 13)),
    "drop_versions": lambda conn: drop_versions(conn, "many"),
    "purge_groups": purge_groups,
    "store_assignment": lambda conn: store_assignment(conn, "default", 1, '{"second": 2}'),
    "store_first_assignment": lambda conn: store_assignment(conn, "fast", 0, "{}"),
}


@pytest.fixture(scope="module")
def server():
    with postgres(WITHOUT_STANDBY) as running:
        yield running


@pytest.fixture(scope="module")
def filled(server, tmp_path_factory):
    """A database, and the rows that every operation starts from."""
    url = server.create()
    migrate(url)
    with closing(Registry(tmp_path_factory.mktemp("cut"), url=url)) as registry:
        fill(registry)
        yield registry.database, rows_of(registry.database)


@pytest.fixture
def database(filled):
    database, rows = filled
    put_back(database, rows)
    return database


@pytest.fixture
def uncut(database, filled, operation):
    """What the operation answers and leaves where nobody cuts it."""
    answer = carry_out(database, operation)
    left = contents(database)
    put_back(*filled)
    assert left != contents(database), "nothing is done"
    return answer, left


def carry_out(database, operation):
    with database.write() as conn:
        return plain(OPERATIONS[operation](conn))


def plain(answer):
    """An answer without the ids that a database draws."""
    if isinstance(answer, tuple | list):
        return [plain(one) for one in answer]
    return {n: v for n, v in asdict(answer).items() if n != "id"} if is_dataclass(answer) else answer


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_write_that_is_cut_after_any_statement_left_nothing_and_ends_well_when_repeated(
    server, database, uncut, operation
):
    before = contents(database)
    for number in range(1, MOST_STATEMENTS):
        with cut_after(server, number) as cut:
            try:
                answer = carry_out(database, operation)
            except DatabaseBusyError:
                assert cut.made, "refused without a cut"
        assert contents(database) == (before if cut.made else uncut[1])
        if not cut.made:
            break
        assert cut.statements == number, "went on after the cut"
    assert number > 2, "nothing was cut but the lock"
    assert answer == uncut[0]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_write_whose_commit_is_cut_is_whole_though_its_caller_cannot_know(server, database, uncut, operation):
    with cut_at_commit(server) as cut, pytest.raises(DatabaseBusyError):
        carry_out(database, operation)
    assert cut.made
    assert contents(database) == uncut[1]


def test_a_claim_that_a_builder_does_not_know_of_is_carried_out_by_it(server, tmp_path):
    with closing(BuilderHome(tmp_path, registry=server.create())) as home:
        with home.database.write() as conn:
            number = enqueue(conn, "release", GROUP, {"release": 99}, NOW)
        service = BuilderService(home.context)
        with cut_at_commit(server, "SET state=") as cut, pytest.raises(DatabaseBusyError):
            service.run_until_idle(home.bench)
        assert home.task(number).state == "running"
        assert cut.made
        service.run_until_idle(home.bench)
        assert home.task(number).result["code"] == "release_not_found"


def test_an_upload_whose_task_was_made_without_its_caller_knowing_is_carried_out(server, tmp_path):
    fleet = fleet_file(tmp_path / "fleet", {"store=1/brand=a": constant(1)})
    with offline(tmp_path / "home", registry=server.create()) as client:
        client.create_group("g", key=["store", "brand"], signature=CONSTANT)
        with cut_at_commit(server, "INSERT INTO imports") as cut, pytest.raises(ApiError) as refused:
            client.import_fleet("g", fleet)
        assert cut.made
        assert (refused.value.status, refused.value.code) == (503, "database_busy")
        client.import_fleet("g", fleet)
        [item] = client.imports("g")
        assert item.registered == 1
