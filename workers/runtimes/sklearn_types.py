"""The types a scikit-learn artifact may be made of: this server's own list, stricter than any library's default.

What the artifact's author says is trusted is never asked. A type is listed when its prediction is plain arithmetic on
its own arrays; what calls a function named in the file (methods, partials, operators) is not, but for the one check
that histogram boosting keeps for its categorical features.
"""

from collections.abc import Iterable
from typing import Final


def _named(module: str, names: str) -> Iterable[str]:
    return (f"{module}.{name}" for name in names.split())


ALLOWED_TYPES: Final = frozenset(
    {
        # what all files are made of
        *_named("builtins", "dict list tuple set str int float bool slice bytes NoneType"),
        *_named("collections", "OrderedDict defaultdict"),
        *_named("numpy", "ndarray dtype bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 intp"),
        *_named("numpy", "float16 float32 float64 str_ bytes_ object_ longlong"),
        *_named("numpy.random._generator", "Generator"),
        *_named("numpy.random.mtrand", "RandomState"),
        *_named("scipy.sparse._csr", "csr_matrix csr_array"),
        *_named("scipy.sparse._csc", "csc_matrix csc_array"),
        # linear models
        *_named("sklearn.linear_model._base", "LinearRegression"),
        *_named("sklearn.linear_model._ridge", "Ridge RidgeCV RidgeClassifier RidgeClassifierCV _IdentityRegressor"),
        *_named(
            "sklearn.linear_model._coordinate_descent",
            "Lasso LassoCV ElasticNet ElasticNetCV MultiTaskLasso MultiTaskElasticNet",
        ),
        *_named("sklearn.linear_model._least_angle", "Lars LarsCV LassoLars LassoLarsCV LassoLarsIC"),
        *_named("sklearn.linear_model._bayes", "BayesianRidge ARDRegression"),
        *_named("sklearn.linear_model._logistic", "LogisticRegression LogisticRegressionCV"),
        *_named("sklearn.linear_model._stochastic_gradient", "SGDRegressor SGDClassifier"),
        *_named("sklearn.linear_model._perceptron", "Perceptron"),
        *_named("sklearn.linear_model._passive_aggressive", "PassiveAggressiveRegressor PassiveAggressiveClassifier"),
        *_named("sklearn.linear_model._huber", "HuberRegressor"),
        *_named("sklearn.linear_model._quantile", "QuantileRegressor"),
        *_named("sklearn.linear_model._theil_sen", "TheilSenRegressor"),
        *_named("sklearn.linear_model._omp", "OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV"),
        *_named("sklearn.linear_model._glm.glm", "PoissonRegressor GammaRegressor TweedieRegressor"),
        *_named("sklearn.svm._classes", "LinearSVC LinearSVR"),
        # trees and their ensembles
        *_named("sklearn.tree._tree", "Tree"),
        *_named(
            "sklearn.tree._classes",
            "DecisionTreeRegressor DecisionTreeClassifier ExtraTreeRegressor ExtraTreeClassifier",
        ),
        *_named(
            "sklearn.ensemble._forest",
            "RandomForestRegressor RandomForestClassifier ExtraTreesRegressor ExtraTreesClassifier",
        ),
        *_named("sklearn.ensemble._gb", "GradientBoostingRegressor GradientBoostingClassifier"),
        *_named("sklearn.ensemble._bagging", "BaggingRegressor BaggingClassifier"),
        *_named("sklearn.ensemble._voting", "VotingRegressor VotingClassifier"),
        *_named("sklearn.ensemble._weight_boosting", "AdaBoostRegressor AdaBoostClassifier"),
        *_named(
            "sklearn.ensemble._hist_gradient_boosting.gradient_boosting",
            "HistGradientBoostingRegressor HistGradientBoostingClassifier",
        ),
        *_named("sklearn.ensemble._hist_gradient_boosting.binning", "_BinMapper"),
        *_named("sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor"),
        *_named("sklearn._loss.link", "Interval IdentityLink LogLink LogitLink HalfLogitLink MultinomialLogit"),
        *_named(
            "sklearn._loss.loss",
            "HalfSquaredError AbsoluteError PinballLoss HuberLoss HalfPoissonLoss HalfGammaLoss HalfTweedieLoss "
            "HalfTweedieLossIdentity HalfBinomialLoss HalfMultinomialLoss ExponentialLoss",
        ),
        *_named(
            "sklearn._loss._loss",
            "CyHalfSquaredError CyAbsoluteError CyPinballLoss CyHuberLoss CyHalfPoissonLoss CyHalfGammaLoss "
            "CyHalfTweedieLoss CyHalfTweedieLossIdentity CyHalfBinomialLoss CyHalfMultinomialLoss CyExponentialLoss",
        ),
        *_named("sklearn.dummy", "DummyRegressor DummyClassifier"),
        # what stands before and around them
        *_named("sklearn.pipeline", "Pipeline FeatureUnion"),
        *_named("sklearn.compose._column_transformer", "ColumnTransformer _RemainderColsList"),
        *_named("sklearn.multioutput", "MultiOutputRegressor"),
        *_named("sklearn.impute._base", "SimpleImputer MissingIndicator"),
        *_named(
            "sklearn.preprocessing._data",
            "StandardScaler MinMaxScaler MaxAbsScaler RobustScaler Normalizer Binarizer PowerTransformer "
            "QuantileTransformer",
        ),
        *_named("sklearn.preprocessing._encoders", "OneHotEncoder OrdinalEncoder"),
        *_named("sklearn.preprocessing._target_encoder", "TargetEncoder"),
        *_named("sklearn.preprocessing._label", "LabelEncoder LabelBinarizer"),
        *_named("sklearn.preprocessing._discretization", "KBinsDiscretizer"),
        *_named("sklearn.preprocessing._polynomial", "PolynomialFeatures SplineTransformer"),
        *_named("scipy.interpolate._bsplines", "BSpline"),
        *_named("sklearn.preprocessing._function_transformer", "FunctionTransformer"),
        *_named("sklearn.feature_selection._variance_threshold", "VarianceThreshold"),
        *_named("functools", "partial"),
    }
)

# The functions a file may name, as the target of a `partial` or of a FunctionTransformer.
ALLOWED_FUNCTIONS: Final = frozenset({"sklearn.utils.validation.check_array"})

# The node types of the skops format that may appear. Not listed: those that get at methods and operators. A function
# node must name one of ALLOWED_FUNCTIONS, and a partial must hold a function node.
ALLOWED_LOADERS: Final = frozenset(
    {
        "BytesNode",
        "DTypeNode",
        "DefaultDictNode",
        "DictNode",
        "FunctionNode",
        "JsonNode",
        "ListNode",
        "LossNode",
        "NdArrayNode",
        "ObjectNode",
        "PartialNode",
        "RandomGeneratorNode",
        "RandomStateNode",
        "SetNode",
        "SliceNode",
        "SparseMatrixNode",
        "TreeNode",
        "TupleNode",
        "TypeNode",
    }
)
