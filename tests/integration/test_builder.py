"""A builder with real databases, files and models: what is asked for becomes whole, or leaves nothing behind."""

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

from registry.deployments import flip
from registry.errors import VersionNotFoundError
from registry.records import Deployment
from registry.releases import begin_release, list_releases
from registry.tasks import claim
from registry.versions import count_heads, get_version
from tests.support import models
from tests.support.builders import GROUP, REAL, SCHEMA, BuilderHome, columns_of
from tests.support.processes import descendants
from tests.support.waiting import until
from workers.builder import service
from workers.builder.context import Bench, ClaimLostError
from workers.builder.registering import register
from workers.builder.release_build import build_release
from workers.builder.service import BuilderService


@pytest.fixture
def home(tmp_path):
    home = BuilderHome(tmp_path / "home")
    yield home
    home.close()


@pytest.fixture
def real(tmp_path):
    home = BuilderHome(tmp_path / "home", REAL)
    yield home
    home.close()


def test_a_registered_model_becomes_a_version_and_goes_live_by_itself(home):
    task = home.ask_to_register("store=2/brand=a", b"sum", tags={"region": "nw"})
    assert home.build() == 3
    result = home.task(task).result
    assert (result["version"], result["created"]) == (1, True)
    version = home.head("store=2/brand=a")
    assert (version.digest, version.size, version.meta.tags) == (result["digest"], 3, {"region": "nw"})
    assert home.live() == 1
    assert home.contents(1) == {"store=2/brand=a": 1}
    assert home.staged() == []


def test_registering_the_same_bytes_again_answers_the_same_version_and_stores_nothing(home):
    home.ask_to_register("store=2/brand=a", b"sum")
    home.build()
    before = home.objects()
    again = home.ask_to_register("store=2/brand=a", b"sum")
    assert home.build() == 1
    assert home.task(again).result["created"] is False
    assert home.task(again).result["version"] == 1
    assert home.objects() == before
    assert home.staged() == []


def test_registrations_in_a_row_go_live_in_one_release(home):
    for store in range(5):
        home.ask_to_register(f"store={store}/brand=a", b"sum")
    home.ask_to_register("brand=a", b"sum")
    assert home.build() == 6 + 2
    assert home.live() == 1
    assert len(home.contents(1)) == 6


def test_a_suspended_group_registers_and_leaves_the_live_release_alone(home):
    with home.database.write() as conn:
        conn.exec_driver_sql("UPDATE groups SET suspended = 1")
    home.ask_to_register("store=2/brand=a", b"sum")
    assert home.build() == 1
    assert home.head("store=2/brand=a").number == 1
    assert home.live() is None


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"junk", "artifact_invalid"), (b"crash", "proof_failed"), (b"eat", "proof_failed"), (b"x" * (1 << 20), None)],
)
def test_a_refused_model_leaves_nothing_behind(home, data, code):
    home.ask_to_register("store=2/brand=a", b"sum")
    home.build()
    before = home.objects()
    task = home.ask_to_register("store=3/brand=a", data)
    home.build()
    if code is None:  # accepted: the store does grow
        assert home.objects() != before
        return
    assert (home.task(task).state, home.task(task).result["code"]) == ("failed", code)
    assert home.objects() == before
    assert home.staged() == []
    assert home.head("store=3/brand=a") is None
    assert home.live() == 1


def test_malformed_examples_and_keys_are_refused_by_field(home):
    examples = {"instances": [{"price": "1"}], "predictions": [1]}
    first = home.ask_to_register("store=3/brand=a", b"sum", examples=examples)
    second = home.ask_to_register("store=3", b"sum")
    home.build()
    assert home.task(first).result["field"] == "examples.instances.0.price"
    assert home.task(second).result["code"] == "key_field_missing"
    assert home.objects() == set()


def test_real_models_of_three_runtimes_are_imported_released_and_live(real):
    made = [models.lightgbm_regressor(1), models.ridge(2), models.onnx_ridge(3)]
    number = real.ask_to_import(
        {
            "store": ["1", "2", "3", None, None],
            "brand": ["a", "a", "a", "a", None],
            "model": [model.data for model in [*made, made[0], made[1]]],
            "runtime": [model.runtime for model in [*made, made[0], made[1]]],
            "tags": [{"n": str(row)} for row in range(5)],
            "metrics": [{"rmse": 0.5 * row} for row in range(5)],
        }
    )
    real.build()
    item = real.imported(number)
    assert (item.state, item.rows, item.registered, item.rejected, item.release) == ("done", 5, 5, 0, 1)
    assert real.live() == 1
    assert set(real.contents(1)) == {"store=1/brand=a", "store=2/brand=a", "store=3/brand=a", "brand=a", ""}
    assert real.head("store=3/brand=a").meta.tags == {"n": "2"}
    assert real.head("").meta.metrics == {"rmse": 2.0}
    assert real.staged() == []


def test_a_pickle_under_another_name_a_truncated_model_and_wrong_examples_are_refused(real):
    lightgbm, onnx = models.lightgbm_regressor(), models.onnx_ridge()
    asked = {
        real.ask_to_register("store=1/brand=a", pickle.dumps({"x": 1}), "onnx"): "artifact_invalid",
        real.ask_to_register("store=1/brand=a", onnx.data[: len(onnx.data) // 2], "onnx"): "artifact_invalid",
        real.ask_to_register(
            "store=1/brand=a", lightgbm.data[: lightgbm.data.index(b"end of trees") - 10], "lightgbm"
        ): "artifact_invalid",
        real.ask_to_register(
            "store=1/brand=a",
            lightgbm.data,
            "lightgbm",
            examples={"instances": [[1.0, 2.0]], "predictions": [-1e6]},
        ): "example_mismatch",
    }
    real.build()
    assert {task: real.task(task).result["code"] for task in asked} == asked
    assert real.objects() == set()
    assert real.staged() == []


def test_examples_that_agree_and_class_lists_are_kept(tmp_path):
    outputs = [{"name": "p", "kind": "probabilities", "classes": ["lo", "mid", "hi"]}]
    home = BuilderHome(tmp_path, REAL, {"inputs": [{"name": "price"}, {"name": "feat"}], "outputs": outputs})
    model = models.lightgbm_multiclass()
    row = np.array([[1.0, 2.0]])
    native = model.native.predict(row, num_threads=1)[0].tolist()
    examples = {"instances": [{"price": 1.0, "feat": 2.0}], "predictions": [[native[1], native[2], native[0]]]}
    task = home.ask_to_register("brand=a", model.data, "lightgbm", classes=["hi", "lo", "mid"], examples=examples)
    home.build()
    assert home.task(task).state == "done", home.task(task).result
    assert home.head("brand=a").meta.classes == ("hi", "lo", "mid")
    home.close()


def test_all_or_nothing_is_the_rule_of_an_import_and_rejects_are_listed(home):
    columns = columns_of()
    columns["model"][3] = b"junk"
    columns["model"][5] = b"crash"
    columns["brand"][7] = ""
    columns["runtime"][8] = "pickle"
    number = home.ask_to_import(columns)
    home.build()
    item = home.imported(number)
    assert (item.state, item.error["code"], item.rejected) == ("failed", "import_rejected", 4)
    assert [(reject.row, reject.key, reject.code, reject.field) for reject in home.rejects(number)] == [
        (3, "store=3/brand=a", "artifact_invalid", None),
        (5, "store=5/brand=a", "proof_failed", None),
        (7, "store=7/brand=", "key_type", "brand"),
        (8, "store=8/brand=a", "artifact_invalid", "runtime"),
    ]
    with home.database.read() as conn:
        assert count_heads(conn, GROUP) == 0
    assert home.live() is None
    assert home.staged() == []


def test_rejected_rows_can_be_skipped(home):
    columns = columns_of()
    columns["model"][3] = b"junk"
    number = home.ask_to_import(columns, on_error="skip")
    home.build()
    item = home.imported(number)
    assert (item.state, item.registered, item.rejected) == ("done", 8, 1)
    assert len(home.contents(1)) == 8
    assert len(home.rejects(number)) == 1


def test_importing_a_fleet_again_adds_nothing_and_releases_nothing(home):
    home.ask_to_import(columns_of())
    home.build()
    number = home.ask_to_import(columns_of())
    home.build()
    item = home.imported(number)
    assert (item.state, item.registered, item.unchanged, item.release) == ("done", 0, 9, None)


def test_a_later_import_is_released_but_does_not_promote_itself(home):
    home.ask_to_import(columns_of())
    home.build()
    number = home.ask_to_import(columns_of(12, b"megabyte"))
    home.build()
    assert home.imported(number).release == 2
    assert home.live() == 1
    assert set(home.contents(2).values()) == {1, 2}


def test_a_key_may_come_twice_in_a_file_and_the_last_row_counts(home):
    columns = columns_of(2)
    columns["store"] = ["1", "1"]
    columns["model"] = [b"sum", b"megabyte"]
    home.ask_to_import(columns)
    home.build()
    assert home.contents(1) == {"store=1/brand=a": 2}


@pytest.mark.parametrize("data", [b"", b"no parquet", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_no_parquet_fails_the_import(home, data):
    number = home.ask_to_import_file(data)
    home.build()
    item = home.imported(number)
    assert (item.state, item.error["code"]) == ("failed", "parquet_invalid")
    assert home.staged() == []


def test_a_file_with_an_unknown_column_fails_the_import_by_name(home):
    number = home.ask_to_import(columns_of() | {"tag": ["x"] * 9})
    home.build()
    assert (home.imported(number).error["code"], home.imported(number).error["field"]) == ("parquet_invalid", "tag")


KILLS = [
    "task.claimed",
    "register.claimed",
    "register.proved",
    "register.stored",
    "register.recorded",
    "auto_release.claimed",
    "auto_release.begun",
    "release.begun",
    "release.segment.stored",
    "release.manifest.stored",
    "release.finished",
    "release.built",
    "promotion.before_want",
    "promotion.wanted",
    "promotion.prepared",
    "promotion.flipped",
    "release.promoted",
]


@pytest.mark.parametrize("failpoint", KILLS)
def test_a_registration_survives_the_death_of_its_builder_anywhere(home, failpoint):
    task = home.ask_to_register("store=2/brand=a", b"sum")
    assert home.build_until_killed_at(failpoint) == -9
    home.build()
    assert home.task(task).result["version"] == 1
    assert home.live() == 1
    assert home.contents(1) == {"store=2/brand=a": 1}
    with home.database.read() as conn:
        assert len(list_releases(conn, GROUP)) == 1
        assert conn.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        with pytest.raises(VersionNotFoundError):
            get_version(conn, GROUP, SCHEMA.parse_text("store=2/brand=a"), 2)


@pytest.mark.parametrize(
    "failpoint",
    [
        "import.claimed",
        "import.bundle_stored",
        "import.checkpointed",
        "import.proved",
        "import.published_some",
        "import.published",
        "import.finished",
        "release.segments.stored",
        "import.released",
    ],
)
def test_an_import_survives_the_death_of_its_builder_anywhere(home, failpoint):
    columns = columns_of()
    columns["model"][6] = b"junk"
    number = home.ask_to_import(columns, on_error="skip")
    assert home.build_until_killed_at(failpoint) == -9
    home.build()
    item = home.imported(number)
    assert (item.state, item.registered, item.rejected, item.rows) == ("done", 8, 1, 9)
    assert [reject.row for reject in home.rejects(number)] == [6]
    assert home.live() == 1
    assert set(home.contents(1).values()) == {1}
    assert len(home.contents(1)) == 8
    assert home.staged() == []
    with home.database.read() as conn:
        assert len(list_releases(conn, GROUP)) == 1
        assert conn.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_a_builder_stops_at_sigterm_and_the_next_one_goes_on(home):
    number = home.ask_to_import(columns_of(400, b"slow"))
    process = home.start_builder()
    until(lambda: home.imported(number).rows > 0)
    assert (Path("/proc") / str(process.pid) / "comm").read_text() == "mm-builder\n"
    process.terminate()
    assert process.wait(60) == 0
    assert home.imported(number).state == "proving"
    assert home.membership.members() == ()
    with home.database.write() as conn:  # the rest need not be slow to be proved
        conn.exec_driver_sql("UPDATE imports SET rows = 398")
    home.build()
    assert home.imported(number).state == "done"


def test_a_builder_ends_when_its_parent_is_gone(home):
    parent = home.start_builder(under_a_parent=True)
    until(home.membership.members)
    parent.kill()
    until(lambda: not home.membership.members())


def test_a_builder_that_has_nothing_to_do_keeps_one_child_ready_for_the_next_registration(home):
    process = home.start_builder()
    until(lambda: len(descendants(process.pid)) == 1)
    process.terminate()
    assert process.wait(60) == 0


def test_a_builder_whose_child_could_not_be_started_while_it_rested_still_proves(home, monkeypatch):
    tried = threading.Event()

    def refused(_bench):
        tried.set()
        raise OSError("no memory for another process")

    monkeypatch.setitem(service._AT_REST, "prove", (0.0, refused))
    stop = threading.Event()
    working = threading.Thread(target=BuilderService(home.context).run, args=(stop,))
    working.start()
    try:
        assert tried.wait(60)
        number = home.ask_to_register("store=1/brand=a", b"sum")
        until(lambda: home.task(number).state == "done", 60)
    finally:
        stop.set()
        working.join()


def test_another_builder_takes_over_what_a_dead_one_held_and_the_dead_one_can_finish_nothing(home):
    number = home.ask_to_register("store=2/brand=a", b"sum")
    with home.database.write() as conn:
        held = claim(conn, "dead", (), ("prove",), 1.0)
        claim(conn, "another", (), ("prove",), 2.0)
    bench = Bench.of(home.context.settings, threading.Event())
    with pytest.raises(ClaimLostError):
        register(home.context, bench, held)
    bench.close()
    assert home.head("store=2/brand=a") is None
    home.build()
    assert home.task(number).result["version"] == 1


def test_a_task_that_ended_many_builders_is_given_up(home):
    number = home.ask_to_register("store=2/brand=a", b"sum")
    with home.database.write() as conn:
        conn.exec_driver_sql("UPDATE tasks SET fence = 10")
    home.build()
    assert home.task(number).result["code"] == "builder_failed"
    assert home.staged() == []


def test_an_auto_release_whose_base_was_replaced_names_its_versions_again_on_the_new_one(home):
    home.ask_to_register("store=1/brand=a", b"sum")
    home.build()
    home.ask_to_register("store=2/brand=a", b"sum")
    bench = Bench.of(home.context.settings, threading.Event())
    service = BuilderService(home.context)
    assert service.step(("prove",), bench)
    assert service.step(("release",), bench)  # release 2 is numbered, on top of 1
    bench.close()
    with home.database.write() as conn:
        other = begin_release(conn, GROUP, base=1, named=[], gates={}, now=2.0)
    build_release(home.database, home.store, GROUP, other.number)
    with home.database.write() as conn:
        flip(conn, GROUP, {"blue": Deployment("blue", other.number, 100)}, if_match=None, author="", now=3.0)
    home.build()
    assert home.live() == 4
    assert set(home.contents(4)) == {"store=1/brand=a", "store=2/brand=a"}


@pytest.mark.parametrize("failpoint", ["register.refused", "import.refused"])
def test_a_refusal_survives_the_death_of_its_builder(home, failpoint):
    task = home.ask_to_register("store=2/brand=a", b"junk")
    number = home.ask_to_import_file(b"junk")
    assert home.build_until_killed_at(failpoint) == -9
    home.build()
    assert home.task(task).state == "failed"
    assert home.imported(number).state == "failed"
    assert home.objects() == set()
