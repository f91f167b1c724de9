"""`manymodels segment inspect` tells what a segment file holds, and whether it is whole."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from manymodels.cli.main import app
from registry.artifacts.bundle import write_bundle
from registry.artifacts.folder import FolderStore
from tests.support import segments
from tests.support.packs import choices, numbers
from tests.support.rewrites import Parts
from workers.packing.verdicts import LARGE, MEANINGS
from workers.segments.writer import SegmentModel


def run(*words):
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, ["segment", "inspect", *map(str, words)])


def told(*words):
    """What it tells machines, and its exit code."""
    result = run(*words, "--json")
    return json.loads(result.stdout), result.exit_code


@pytest.fixture(scope="module")
def whole():
    return numbers().data


@pytest.fixture
def file(tmp_path, whole):
    (tmp_path / "segment").write_bytes(whole)
    return tmp_path / "segment"


def damaged(file, whole, *positions):
    data = bytearray(whole)
    for position in positions:
        data[position] ^= 1
    file.write_bytes(bytes(data))


def row_of(parts, *, packed):
    """The first row that is packed or not."""
    return next(row for row in range(parts.header.models) if (parts.pack(row)[1] > parts.pack(row)[0]) == packed)


def test_a_segment_is_told_as_a_whole(file, whole):
    found, code = told(file)
    segment = found["segment"]
    assert (code, list(found)) == (0, ["segment"])
    assert [segment[name] for name in ("format", "pack_format", "group", "shard", "shards", "models")] == ["2", 1, "oj-sales", 1, 4, 11]  # fmt: skip
    assert segment["bytes"]["file"] == len(whole) == sum(list(segment["bytes"].values())[1:])
    packed = segment["verdicts"]["packed"]
    assert packed == {"models": 9, "meaning": MEANINGS["packed"], "runtimes": {"lightgbm": 9}}
    assert segment["runtimes"] == {"lightgbm": 9, "onnx": 1, "sklearn": 1}
    parts = Parts(whole)
    lengths = sorted(end - start for start, end in map(parts.pack, range(11)) if end > start)
    assert segment["pack_bytes"] == {"least": lengths[0], "median": lengths[4], "most": lengths[-1]}
    stored = segment["arrays"][-1]
    assert whole[stored["start"] : stored["end"]] == parts.arrays["stored"]
    assert segment["arrays"][11] == {"name": "digest", "dtype": "U8", "shape": [11, 32], "start": 4978, "end": 5330}


def test_people_are_told_the_same(file):
    result = run(file, "--models", "2", "--verify")
    assert result.exit_code == 0
    for said in (
        "segment of oj-sales, shard 1 of 4, 11 models, format 2",
        "scored where it lies in the segment",
        "lightgbm 9, onnx 1, sklearn 1",
        "pack_bounds",
        "trained through",
        "9 packs and 2 stored models checked, 0 bad",
    ):
        assert said in result.stdout


def test_the_first_models_are_listed(file):
    found, _ = told(file, "--models", 3)
    assert len(found["models"]) == 3
    assert set(found["models"][0]) == {"key", "version", "runtime", "verdict", "bytes", "trained_through"}
    everything, _ = told(file, "--models", 99)
    assert {model["key"] for model in everything["models"]} == {f"store={number}" for number in range(11)}
    assert sum(model["bytes"] for model in everything["models"]) == sum(
        everything["segment"]["bytes"][name] for name in ("packs", "stored")
    )


def test_one_packed_model_is_shown_in_words(file):
    found, code = told(file, "--key", "store=6")
    model, pack = found["model"], found["model"]["pack"]
    assert (code, list(found), model["fault"]) == (0, ["model"], "")
    assert model["entry"]["codes"] == [[2, [["red", 0], ["green", 1], ["blue", 2]]]]
    assert (pack["family"], pack["parts"], pack["raw"], pack["transform"]) == ("trees", 5, 1, "none")
    assert 2 in pack["inputs"]
    shown = run(file, "--key", "store=6").stdout
    assert "red 0, green 1, blue 2" in shown
    assert "its checksum is right and its pack is sound" in shown


def test_a_classifier_is_shown_with_its_outputs_and_classes(tmp_path):
    (tmp_path / "segment").write_bytes(choices().data)
    found, _ = told(tmp_path / "segment", "--key", "store=2")
    pack = found["model"]["pack"]
    assert (pack["transform"], pack["classes"]) == ("sigmoid", [2, 0])
    assert pack["outputs"] == ["label of the likeliest class", "probabilities"]
    assert "factor 1.0" in run(tmp_path / "segment", "--key", "store=2").stdout


def test_a_stored_model_is_shown_without_a_pack(file):
    found, _ = told(file, "--key", "store=9")
    assert (found["model"]["pack"], found["model"]["entry"]["runtime"]) == (None, "sklearn")
    assert "its SHA-256 is right" in run(file, "--key", "store=9").stdout


def test_a_key_that_is_not_there_is_refused(file):
    result = run(file, "--key", "store=999")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no model for 'store=999'" in result.stderr


def test_verify_names_every_damaged_model_and_ends_with_1(file, whole):
    parts = Parts(whole)
    packed, stored = row_of(parts, packed=True), row_of(parts, packed=False)
    frame = int(parts.numbers("frame_bounds")[stored])
    damaged(file, whole, parts.header.index_end + parts.pack(packed)[0] + 700, parts.header.stored_at + frame + 30)
    found, code = told(file, "--verify")
    faults = found["verification"]["faults"]
    assert (code, [fault["row"] for fault in faults]) == (1, sorted((packed, stored)))
    keys = [model["key"] for model in told(file, "--models", 11)[0]["models"]]
    assert [fault["key"] for fault in faults] == [keys[fault["row"]] for fault in faults]
    assert "checksum" in next(fault["what"] for fault in faults if fault["row"] == packed)
    shown = run(file, "--verify")
    assert (shown.exit_code, "2 bad" in shown.stdout) == (1, True)
    assert run(file).exit_code == 0
    assert run(file, "--key", keys[packed]).exit_code == 1


def test_an_unsound_pack_under_a_true_checksum_is_found(file, whole):
    parts = Parts(whole)
    row = row_of(parts, packed=True)
    start, end = parts.pack(row)
    pack = bytearray(parts.arrays["packs"][start:end])
    pack[16:24] = (1 << 40).to_bytes(8, "little")
    parts.put_pack(row, bytes(pack))
    file.write_bytes(parts.signed())
    found, code = told(file, "--verify")
    assert (code, [fault["row"] for fault in found["verification"]["faults"]]) == (1, [row])
    assert "not sound" in found["verification"]["faults"][0]["what"]


def test_a_pack_that_reads_past_the_signature_is_found_with_its_number_of_inputs(file):
    assert told(file, "--verify", "--inputs", 4)[1] == 0
    found, code = told(file, "--verify", "--inputs", 3)
    assert code == 1
    assert {fault["key"] for fault in found["verification"]["faults"]} == {"store=4", "store=5"}
    found, _ = told(file, "--verify", "--inputs", 2)
    assert {fault["key"] for fault in found["verification"]["faults"]} == {f"store={n}" for n in (4, 5, 6, 7)}


@pytest.mark.parametrize("cut", [0, 7, 100, 5_000, -1])
def test_a_damaged_file_is_one_line_and_1(file, whole, cut):
    file.write_bytes(whole[:cut])
    result = run(file)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "(segment_damaged)" in result.stderr


def test_no_such_file_is_one_line_and_1(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        result = run(path)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert "cannot be read" in result.stderr


def test_a_home_lets_a_segment_be_named_by_its_digest(tmp_path, whole):
    home = tmp_path / "home"
    digest = FolderStore(home / "artifacts").put([whole]).digest
    found, code = told(digest, "--home", home, "--verify")
    assert (code, found["segment"]["models"], found["verification"]["faults"]) == (0, 11, [])
    result = run("0" * 64, "--home", home)
    assert (result.exit_code, "artifact_missing" in result.stderr) == (1, True)


def test_large_models_are_checked_where_their_home_is_named(tmp_path):
    home = tmp_path / "home"
    store = FolderStore(home / "artifacts")
    raw = segments.artifact(4)
    (place,) = write_bundle(store, [raw])
    known = replace(segments.entry_of(4), key="store=x", place=place, verdict=LARGE)
    assert known.digest == hashlib.sha256(raw).hexdigest()
    (tmp_path / "segment").write_bytes(segments.segment_bytes([*segments.models(3), SegmentModel.alone(known)]))
    alone, _ = told(tmp_path / "segment", "--verify")
    assert (alone["verification"]["stored"], alone["verification"]["elsewhere"]) == (3, 1)
    assert alone["segment"]["pack_bytes"] is None
    assert "name its home with --home" in run(tmp_path / "segment", "--key", "store=x").stdout
    reached, code = told(tmp_path / "segment", "--verify", "--home", home)
    assert (code, reached["verification"]["stored"], reached["verification"]["elsewhere"]) == (0, 4, 0)
    store.delete(place.bundle)
    assert told(tmp_path / "segment", "--verify", "--home", home)[1] == 1


def test_the_light_install_says_what_to_install(file):
    script = (
        "import sys\n"
        "class Light:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('numpy', 'numba', 'zstandard', 'sqlalchemy'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Light())\n"
        f"sys.argv = ['manymodels', 'segment', 'inspect', {str(file)!r}]\n"
        "from manymodels.cli.main import main\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "pip install 'manymodels[server]'" in ended.stderr
