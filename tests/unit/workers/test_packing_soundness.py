"""What `check` calls sound cannot lead the kernel astray, whatever was done to a pack."""

import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder

from tests.support.packing import VALUE, classes, loaded, packed, signature
from workers.packing.checks import SOUND, check
from workers.packing.kernel import score
from workers.packing.layout import GOOD, LINEAR, Pack, head_of
from workers.packing.linear import AT_MOST, IMPUTE, Term, laid_out
from workers.packing.wire import read, written

ROOT = Path(__file__).parents[3]
NAMES = ("a", "k", "t")
DTYPES = {"t": "string"}


@cache
def packs():
    """A small pack of each kind, and its signature."""
    random = np.random.default_rng(0)
    made = pd.DataFrame({"a": random.normal(size=120), "k": random.integers(0, 40, 120).astype(float)})
    made["t"] = random.choice(np.array(["x", "y", "z"], dtype=object), 120)
    y = made["a"] + made["k"] % 3 + (made["t"] == "x")
    labels = np.array(["lo", "mid", "top"])[np.clip(y.astype(int), 0, 2)]
    encoded = ColumnTransformer([("e", OneHotEncoder(handle_unknown="ignore"), ["t", "k"])], remainder="passthrough")
    named = classes("top", "other", "lo", "mid")
    natives = [
        (RandomForestClassifier(2, max_depth=3).fit(made[["a", "k"]], labels), named),
        (GradientBoostingClassifier(n_estimators=2, max_depth=2).fit(made[["a", "k"]], labels), named),
        (HistGradientBoostingRegressor(max_iter=4, categorical_features=["k", "t"]).fit(made, y), VALUE),
        (make_pipeline(encoded, Ridge()).fit(made, y), VALUE),
        (make_pipeline(SimpleImputer(), MinMaxScaler(clip=True), LogisticRegression()).fit(made[["a"]], labels), named),
    ]
    of = [signature(NAMES, outputs, DTYPES) for _, outputs in natives]
    return [(packed(loaded(native, one), one), one) for (native, _), one in zip(natives, of, strict=True)]


def sound(words, of):
    return check(words.ctypes.data, len(words), *of.shape) == SOUND


@pytest.mark.parametrize("seed", range(3))
def test_no_spoiled_pack_that_is_sound_makes_the_kernel_touch_other_memory(seed):
    given = pickle.dumps([(pack.words, *of.shape) for pack, of in packs()])
    command = [sys.executable, "-m", "tests.support.pack_fuzzing", str(seed), "4"]
    done = subprocess.run(command, input=given, capture_output=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    tried, still_sound = map(int, done.stdout.split())
    assert tried > 2000
    assert still_sound > tried / 50


def test_every_whole_pack_is_sound_and_none_that_is_cut_or_read_otherwise():
    for pack, of in packs():
        words = pack.words
        inputs, columns, groups = of.shape
        assert sound(words, of)
        assert check(words.ctypes.data, len(words) - 8, inputs, columns, groups) != SOUND
        assert check(words.ctypes.data, len(words), 0, columns, groups) != SOUND
        assert check(words.ctypes.data, len(words), inputs, columns + 1, groups) != SOUND or head_of(words).outputs


TERM = Term(1, [(IMPUTE, 2.0), (AT_MOST, 9.0)], np.array([3.0]))
TABLE = Term(0, [], np.array([[1.0], [2.0]]), np.array([5.0, 4.0]))


def linear_pack(words):
    """A pack of terms and nothing else, for two inputs and one number."""
    size = -(-(16 + len(words)) // 8) * 8
    made = np.zeros(size, dtype=np.int64)
    made[16 : 16 + len(words)] = words
    made[:16] = (size, LINEAR, 2, 1, 1, 0, 0, 0, 0, 0, 16, 0, 16, 16, 16, 0)
    return made


def test_terms_are_laid_out_as_the_kernel_reads_them():
    made = linear_pack(laid_out([TERM, TABLE]))
    assert check(made.ctypes.data, len(made), 2, 1, 0) == SOUND
    rows = np.array([[4.0, 1.0], [5.0, np.nan], [7.0, 10.0], [np.nan, 0.0]])
    scores, states = score(made, rows, 1)
    assert (states == GOOD).all()
    assert scores.ravel().tolist() == [3.0 + 2.0, 6.0 + 1.0, 27.0, 0.0]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (0, 2 | 2 << 16),  # an input that is not there
        (0, 1 | 2 << 16 | 1 << 15),
        (0, 1 | 0xFFFF << 16),  # operations past the end
        (0, 1 | 2 << 16 | 1 << 32),  # a number with entries
        (0, -1),
        (1, 3),  # a kind that is none
        (1, -1),
        (2, AT_MOST + 1),  # an operation that is none
        (2, -1),
        (7, 0 | 1 << 55),  # more entries than words
        (7, 0 | 9 << 32),
    ],
)
def test_terms_that_lead_outside_are_not_sound(word, value):
    made = linear_pack(laid_out([TERM, TABLE]))
    made[16 + word] = value
    assert check(made.ctypes.data, len(made), 2, 1, 0) != SOUND


@pytest.mark.parametrize(("word", "value"), [(2, 9), (2, -1), (2, 1 << 62), (3, 0), (3, 257), (12, 15), (12, 1 << 40)])
def test_heads_of_linear_packs_that_lie_are_not_sound(word, value):
    made = linear_pack(laid_out([TERM, TABLE]))[:32].copy()
    made[0] = len(made)
    assert check(made.ctypes.data, len(made), 2, 1, 0) == SOUND
    made[word] = value
    assert check(made.ctypes.data, len(made), 2, 1, 0) != SOUND


def test_codes_keep_what_a_missing_text_is_on_their_way():
    pack = next(pack for pack, _ in packs() if pack.codes and None in pack.codes[0][1])
    words, codes = read(written(pack))
    assert words == pack.words.tobytes()
    assert [(position, dict(known)) for position, known in codes] == [(at, dict(known)) for at, known in pack.codes]
    assert read(written(Pack(pack.words)))[1] == ()
