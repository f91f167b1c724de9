"""A tree pack answers as LightGBM does, to the last bit, or there is none."""

import re
from contextlib import nullcontext

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.signature import Signature
from workers.features import Features
from workers.packing.checks import SOUND, check
from workers.packing.kernel import score, score_rows, scratch
from workers.packing.layout import PLAIN_TREES, ZERO, NotPackableError, Pack, Parts, Probe, assembled, head_of
from workers.packing.lightgbm import read_lightgbm
from workers.packing.proof import prove_pack
from workers.packing.proof_rows import proof_rows

WIDTH = 4
SIGNATURE = Signature.from_json(
    {
        "inputs": [{"name": name, "nullable": True} for name in "abcd"],
        "outputs": [{"name": "y"}],
    }
)
QUIET = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 3, "min_data_per_group": 2, "cat_smooth": 1.0}
EDGES = [np.nan, np.inf, -np.inf, 0.0, -0.0, ZERO, -ZERO, np.nextafter(ZERO, 1), np.nextafter(-ZERO, -1), 5e-324, 1e308]
CELLS = st.one_of(st.sampled_from(EDGES), st.floats(), st.integers(-2, 70).map(float), st.floats(-9, 9))


def train(*, categorical=(), target="number", trees=5, seed=0, missing=0.1, **params):
    random = np.random.default_rng(seed)
    table = random.normal(0, 3, (300, WIDTH))
    table[:, 2] = random.integers(0, 60, 300)
    table[:, 3] *= random.random(300) < 0.5
    table[:, 0][random.random(300) < missing] = np.nan
    sums = np.nan_to_num(table[:, 0]) * 2 + table[:, 2] % 3 + table[:, 3] + random.normal(size=300)
    y = {
        "number": sums,
        "positive": np.abs(sums) + 0.1,
        "binary": (sums > 1).astype(float),
        "class": np.clip(np.abs(sums) // 3, 0, 2),
    }[target]
    data = lightgbm.Dataset(table, y, categorical_feature=list(categorical))
    return lightgbm.train({**QUIET, "num_leaves": 9, **params}, data, trees)


def native(booster, rows):
    return booster.predict(rows, num_threads=1).reshape(len(rows), -1)


def packed(text, inputs=range(WIDTH)):
    """A pack whose raw numbers are its answers, and where its proof looks."""
    parts, probe = read_lightgbm(text if isinstance(text, bytes) else text.model_to_string().encode(), inputs)
    words = assembled(parts)
    if check(words.ctypes.data, len(words), WIDTH, parts.raw, 0) != SOUND:
        raise NotPackableError("shape", "not sound")
    return Pack(words), probe


def answers(pack, rows, columns):
    scores, states = score(pack.words, rows, columns)
    assert not states.any()
    return scores


def assert_equal(booster, rows):
    pack, probe = packed(booster)
    expected = native(booster, rows)
    np.testing.assert_array_equal(answers(pack, rows, expected.shape[1]), expected)
    return pack, probe


class Native:
    """A booster as the proof asks it."""

    def __init__(self, booster):
        self.booster = booster

    def predict(self, features: Features):
        return native(self.booster, features.matrix)


KINDS = [
    *[{"objective": name} for name in ("regression", "regression_l1", "huber", "fair", "quantile", "mape")],
    *[{"objective": name, "target": "positive"} for name in ("poisson", "gamma", "tweedie")],
    *[{"objective": name, "target": "binary"} for name in ("binary", "cross_entropy", "cross_entropy_lambda")],
    *[{"objective": name, "target": "class", "num_class": 3} for name in ("multiclass", "multiclassova")],
    {"objective": "binary", "target": "binary", "sigmoid": 1.7},
    {"objective": "regression", "reg_sqrt": True},
    {"objective": "regression", "zero_as_missing": True},
    {"objective": "regression", "use_missing": False},
    {"objective": "regression", "boosting": "dart", "trees": 12},
    {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    {"objective": "binary", "target": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    {"objective": "regression", "trees": 1, "num_leaves": 2},
    {"objective": "regression", "min_data_in_leaf": 1000},  # trees of one leaf
    {"objective": "regression", "num_leaves": 200, "min_data_in_leaf": 1},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
@pytest.mark.parametrize("categorical", [(), (2,)], ids=["numbers", "categories"])
def test_every_objective_and_missing_type_answers_to_the_last_bit(kind, categorical):
    booster = train(categorical=categorical, **kind)
    random = np.random.default_rng(9)
    rows = random.normal(0, 4, (300, WIDTH))
    rows[:, 2] = random.integers(-2, 70, 300)
    rows[random.random(rows.shape) < 0.2] = np.nan
    edges = np.array([[edge] * WIDTH for edge in EDGES])
    pack, probe = assert_equal(booster, np.concatenate((rows, edges)))
    features = proof_rows(pack, probe, SIGNATURE)
    assert_equal(booster, features.matrix)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**31),
    st.sampled_from([kind for kind in KINDS if "rf" not in kind.values()]),
    st.sampled_from([(), (2,)]),
    st.lists(st.lists(CELLS, min_size=WIDTH, max_size=WIDTH), min_size=1, max_size=20),
)
def test_any_model_answers_any_row_to_the_last_bit(seed, kind, categorical, cells):
    booster = train(seed=seed, categorical=categorical, **kind)
    assert_equal(booster, np.array(cells, dtype=np.float64))


def test_thresholds_and_their_neighbours_fall_to_the_native_side():
    booster = train(objective="regression", trees=20)
    _, probe = packed(booster)
    thresholds = np.concatenate(list(probe.thresholds.values()))
    assert len(thresholds) > 100
    rows = [np.full(WIDTH, f(t)) for t in thresholds for f in (float, _above, _below)]
    assert_equal(booster, np.array(rows))


def _above(value):
    return np.nextafter(value, np.inf)


def _below(value):
    return np.nextafter(value, -np.inf)


def test_inputs_are_read_at_their_positions_in_the_signature():
    booster = train(objective="regression")
    parts, _ = read_lightgbm(booster.model_to_string().encode(), (5, 1, 0, 3))
    rows = np.random.default_rng(3).normal(0, 3, (50, 6))
    scores, _ = score(assembled(parts), rows, 1)
    np.testing.assert_array_equal(scores, native(booster, rows[:, [5, 1, 0, 3]]))


def test_one_call_scores_rows_of_many_models():
    boosters = [train(objective="regression", seed=seed) for seed in range(6)]
    packs = [packed(booster)[0] for booster in boosters]
    rows = np.random.default_rng(4).normal(0, 3, (6, WIDTH))
    scores, states, room = np.empty((6, 1)), np.empty(6, dtype=np.int8), scratch()
    refused = score_rows(
        np.array([pack.words.ctypes.data for pack in packs]),
        rows.ctypes.data + np.arange(6) * 8 * WIDTH,
        scores.ctypes.data + np.arange(6) * 8,
        states,
        room.ctypes.data,
    )
    assert refused == 0
    expected = [native(booster, rows[i : i + 1])[0] for i, booster in enumerate(boosters)]
    np.testing.assert_array_equal(scores, expected)


def test_a_pack_is_small():
    pack, _ = packed(train(objective="regression", trees=50, num_leaves=15))
    assert pack.words.nbytes <= 20_000


def edited(pattern, replacement, booster=None, count=1):
    text = (booster or train(objective="regression")).model_to_string()
    changed = re.sub(pattern, replacement, text, count=count)
    assert changed != text
    return changed.encode()


@pytest.mark.parametrize(
    ("pattern", "replacement", "said"),
    [
        ("objective=regression", "objective=stranger", "objective"),
        ("objective=regression", "objective=regression twice:2", "option"),
        ("is_linear=0", "is_linear=1", "linear"),
        (r"left_child=\S+", "left_child=0", "sound"),
        (r"left_child=\S+", "left_child=99", "sound"),
        (r"right_child=\S+", "right_child=-99", "sound"),
        (r"split_feature=\S+", "split_feature=77", "feature"),
        (r"decision_type=\S+", "decision_type=64", "decision_type"),
        (r"threshold=\S+", "threshold=nan", "threshold"),
        (r"threshold=\S+ ", "threshold=", "nodes"),
        (r"leaf_value=\S+ ", "leaf_value=", "nodes"),
        (r"left_child=\S+", "left_child=-99999", "root"),
        (r"leaf_value=\S+", "leaf_value=x", "LightGBM writes"),
        (r"\nright_child=", "\nwrong_child=", "lines"),
        (r"num_tree_per_iteration=1", "num_tree_per_iteration=7", "iterations"),
        (r"\nend of trees", "", "LightGBM writes"),
    ],
)
def test_what_a_pack_cannot_represent_is_refused_with_its_reason(pattern, replacement, said):
    with pytest.raises(NotPackableError, match=said):
        packed(edited(pattern, replacement))


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [(r"cat_boundaries=0 \d+", "cat_boundaries=0 999"), (r"cat_threshold=\S+", "cat_threshold=99999999999")],
)
def test_category_sets_outside_their_words_are_refused(pattern, replacement):
    booster = train(objective="regression", categorical=(2,), max_cat_to_onehot=1)
    with pytest.raises(NotPackableError):
        packed(edited(pattern, replacement, booster))


def test_a_pack_that_answers_otherwise_in_one_bit_is_not_proven():
    booster = train(objective="regression")
    pack, probe = packed(booster)
    prove_pack(pack, probe, Native(booster), SIGNATURE, 0.0)
    head = head_of(pack.words)
    place = int(pack.words[head.parts_at])
    leaves = (place & 0xFFFFFFFF) + 2 * (place >> 32)
    pack.words[leaves : leaves + (place >> 32) + 1] += 1  # the last bit of every leaf of the first tree
    with pytest.raises(NotPackableError, match="answers otherwise"):
        prove_pack(pack, probe, Native(booster), SIGNATURE, 0.0)


class Constant:
    """A native model that answers one number."""

    inputs = (0,)

    def __init__(self, answer):
        self.answer = answer

    def predict(self, features):
        return np.full((len(features), 1), self.answer)


@pytest.mark.parametrize(("answer", "proved"), [(0.0, True), (-0.0, False), (5e-324, False), (np.nan, False)])
def test_a_pack_is_proved_by_the_bits_of_its_answers(answer, proved):
    none = np.empty(0, dtype=np.int64)
    pack = Pack(assembled(Parts(PLAIN_TREES, 1, 0, none, none, none)))
    probe = Probe((0,), {0: np.array([1.0])})
    with nullcontext() if proved else pytest.raises(NotPackableError, match="otherwise"):
        prove_pack(pack, probe, Constant(answer), SIGNATURE, 0.0)
