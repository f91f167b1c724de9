"""What linear models are fitted on and asked in tests: two numbers, whole numbers of few values, and texts."""

import numpy as np
import pandas as pd
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    GammaRegressor,
    HuberRegressor,
    Lars,
    Lasso,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.svm import LinearSVC, LinearSVR

from tests.support.packing import VALUE, loaded, packed, signature
from workers.features import Features

NAMES = ("a", "b", "k", "t")  # t is text
INPUTS = ("t", "k", "unread", "b", "a")
DTYPES = {"t": "string", "k": "int64"}
TEXTS = ["x", "y", "z"]

REGRESSORS = {
    type(of).__name__: of
    for of in (
        LinearRegression(),
        Ridge(),
        RidgeCV(),
        Lasso(0.1),
        LassoCV(cv=2),
        ElasticNet(0.1),
        ElasticNetCV(cv=2),
        Lars(),
        BayesianRidge(),
        HuberRegressor(),
        QuantileRegressor(),
        SGDRegressor(eta0=1e-3, random_state=0),
        LinearSVR(random_state=0),
        PoissonRegressor(),
        GammaRegressor(),
        TweedieRegressor(power=0),
        TweedieRegressor(power=1.5, link="log"),
    )
}
SHARING = {
    "logistic": LogisticRegression(),
    "logistic cv": LogisticRegressionCV(cv=2, Cs=2),
    "no intercept": LogisticRegression(fit_intercept=False),
    "sgd": SGDClassifier(loss="log_loss", random_state=0),
}
DECIDING = {"ridge": RidgeClassifier(), "ridge cv": RidgeClassifierCV(), "svc": LinearSVC(random_state=0)}


def table(seed=0, rows=160, *, missing=False):
    random = np.random.default_rng(seed)
    made = pd.DataFrame({"a": random.normal(3, 2, rows), "b": random.normal(-40, 25, rows)})
    made["k"] = random.integers(0, 5, rows)
    made["t"] = random.choice(np.array(TEXTS, dtype=object), rows)
    if missing:
        for name in ("a", "b", "t"):
            made.loc[random.random(rows) < 0.2, name] = np.nan
    return made


def target(made):
    texts = made["t"].map({"x": 5.0, "y": -2.0}).fillna(0.0)
    return np.abs(made["a"].fillna(1.0) * 2 - made["b"].fillna(3.0) / 7 + made["k"] % 3 + texts).to_numpy() + 0.1


def labels(made, count):
    rank = pd.Series(target(made)).rank(pct=True).to_numpy()
    return np.array(["lo", "mid", "top"][:count])[np.minimum((rank * count).astype(int), count - 1)]


def features(seed=7, count=60, *, missing=0.0, unseen=False, spread=1.0):
    """Rows of the group's inputs, as a gateway lays them out."""
    random = np.random.default_rng(seed)
    matrix = random.normal(0, 30 * spread, (count, len(INPUTS)))
    matrix[:, 1] = random.integers(0, 9 if unseen else 5, count)
    matrix[random.random(matrix.shape) < missing] = np.nan
    matrix[:, 0] = np.nan
    texts = [*TEXTS, *(["unseen"] if unseen else []), *([None] if missing else [])]
    return Features(matrix, {0: random.choice(np.array(texts, dtype=object), count).tolist()})


def pair(native, names=("a", "b"), outputs=VALUE, *, missing=False, y=None):
    made = table(missing=missing)
    of = signature(INPUTS, outputs, DTYPES)
    model = loaded(native.fit(made[list(names)], target(made) if y is None else y), of)
    return model, packed(model, of), of
