"""Whatever an artifact does to the process that parses it, the caller gets an answer for it and for its neighbours."""

import pickle
from hashlib import sha256

import pytest

from registry.artifacts.frames import decompress
from registry.errors import Problem
from registry.keys import KeySchema
from registry.signature import Signature
from tests.support.constant import SIGNATURE as CONSTANT_SIGNATURE
from tests.support.constant import constant
from tests.support.toy_runtimes import CATALOG, PREPARE
from workers.builder.proof import BulkRow, ProofContext, ProofRequest, ProvedRow, RefusedRow, RowBatch
from workers.builder.proof_pool import PREPARE_ROWS, PROVE_ROWS, ProofPool
from workers.children.pool import ChildPool
from workers.errors import ArtifactInvalidError, ArtifactTooLargeError, ProofFailedError

SCHEMA = KeySchema(("store",))
SIGNATURE = Signature.from_json({"inputs": [{"name": "price"}], "outputs": [{"name": "sales"}]})
CONTEXT = ProofContext(SCHEMA, SIGNATURE, artifact_bytes=100, runtime="sklearn", catalog=CATALOG)


@pytest.fixture(scope="module")
def pool():
    pool = ProofPool(1, 3.0, 1 << 30, prepare=PREPARE)
    pool.warm()
    yield pool
    pool.close()


def _request(data: bytes) -> ProofRequest:
    return ProofRequest(SCHEMA.key(["1"]), "sklearn", data)


def _batch(*models: bytes | None) -> RowBatch:
    rows = [BulkRow(10 + at, {"store": str(at)}, None, model, {}) for at, model in enumerate(models)]
    return RowBatch(10, len(rows), pickle.dumps(rows))


def test_a_good_artifact_is_proved(pool):
    proof = pool.prove(CONTEXT, _request(b"sum"))
    assert proof.digest == sha256(b"sum").hexdigest()
    assert decompress(proof.frame, 3) == b"sum"
    assert (proof.size, proof.inputs) == (3, (0,))
    assert proof.heap >= 1024


def test_the_heap_of_a_model_is_measured(pool):
    assert (1 << 20) <= pool.prove(CONTEXT, _request(b"megabyte")).heap < (1 << 20) + 100_000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"crash", "crashed the process that proved it: ended by signal 11"),
        (b"abort", "ended by signal 6"),
        (b"hang", "took too long: no answer within 3 seconds"),
        (b"eat", "more memory"),
        (b"break", "ZeroDivisionError: a library broke"),
        (b"infinite", "infinity"),
        (b"misshapen", "shape"),
    ],
)
def test_an_artifact_that_misbehaves_is_refused_and_the_next_is_proved(pool, data, words):
    with pytest.raises(ProofFailedError, match=words):
        pool.prove(CONTEXT, _request(data))
    assert pool.prove(CONTEXT, _request(b"sum")).size == 3


def test_an_artifact_of_another_format_is_refused(pool):
    with pytest.raises(ArtifactInvalidError, match="junk"):
        pool.prove(CONTEXT, _request(b"junk"))


def test_an_artifact_over_the_limit_is_refused_as_bytes_and_as_a_file(pool, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(b"x" * 101)
    for source in (b"x" * 101, large):
        with pytest.raises(ArtifactTooLargeError, match="101 bytes, the limit is 100"):
            pool.prove(CONTEXT, _request(source))


def test_a_staged_file_is_proved_from_its_path(pool, tmp_path):
    staged = tmp_path / "staged"
    staged.write_bytes(b"sum")
    assert pool.prove(CONTEXT, _request(staged)).size == 3


def test_bad_rows_of_a_batch_are_refused_alone(pool):
    answers = pool.prove_rows(
        CONTEXT, _batch(b"sum", b"crash", b"sum", b"hang", b"sum", b"eat", None, b"abort", b"junk", b"sum")
    )
    assert [answer.row for answer in answers] == list(range(10, 20))
    proved = [answer.row - 10 for answer in answers if isinstance(answer, ProvedRow)]
    assert proved == [0, 2, 4, 9]
    refused = {answer.row - 10: answer.problem.code for answer in answers if isinstance(answer, RefusedRow)}
    assert refused == {
        1: "proof_failed",
        3: "proof_failed",
        5: "proof_failed",
        6: "artifact_invalid",
        7: "proof_failed",
        8: "artifact_invalid",
    }
    assert answers[1].key == "store=1"


def test_a_row_whose_child_died_of_its_neighbour_is_tried_again_alone(pool):
    answers = pool.prove_rows(CONTEXT, _batch(b"poison", b"sum", b"sum"))
    assert isinstance(answers[1], ProvedRow)
    assert isinstance(answers[2], ProvedRow)


@pytest.mark.parametrize(
    ("key", "code", "field"),
    [
        ({"store": None}, "key_field_missing", "store"),
        ({"store": ""}, "key_type", "store"),
        ({"store": 1.5}, "key_type", "store"),
        ({}, "key_field_missing", "store"),
    ],
)
def test_a_row_with_a_bad_key_is_refused_by_field(pool, key, code, field):
    rows = [BulkRow(0, key, None, b"sum", {})]
    (answer,) = pool.prove_rows(CONTEXT, RowBatch(0, 1, pickle.dumps(rows)))
    assert isinstance(answer.problem, Problem)
    assert (answer.problem.code, answer.problem.field) == (code, field)


@pytest.mark.parametrize("runtime", ["pickle", "../x", "SKLEARN"])
def test_an_unknown_runtime_is_refused(pool, runtime):
    rows = [BulkRow(0, {"store": "1"}, runtime, b"sum", {})]
    (answer,) = pool.prove_rows(CONTEXT, RowBatch(0, 1, pickle.dumps(rows)))
    assert (answer.problem.code, answer.problem.field) == ("artifact_invalid", "runtime")


def test_a_fleet_of_one_kind_loads_one_library():
    pool = ChildPool(1, prepare=PREPARE_ROWS, deadline=60.0, memory_bytes=1 << 30)
    context = ProofContext(SCHEMA, Signature.from_json(CONSTANT_SIGNATURE), artifact_bytes=1 << 20)
    rows = pickle.dumps([BulkRow(0, {"store": "1"}, "lightgbm", constant(7), {})])
    [answer] = pool.run(PROVE_ROWS, pickle.dumps(context), pickle.dumps((rows, 0, 1)))
    assert isinstance(pickle.loads(answer), ProvedRow)
    [libraries] = pool.run("tests.support.toy_runtimes:libraries", b"", b"")
    assert libraries == b"[]"  # LightGBM's is called without its package
    pool.close()
