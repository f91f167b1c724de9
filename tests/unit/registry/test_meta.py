"""What authors may say of a model is read strictly, and each refusal names its field."""

import pytest

from registry.errors import MetaInvalidError
from registry.meta import MetaLimits, meta_body, parse_meta, read_meta
from registry.records import ModelMeta

FULL = {
    "tags": {"region": "nw"},
    "metrics": {"rmse": 1.5, "rows": 120},
    "provenance": {"trained_through": "2026-11-19", "run": "r/1"},
    "classes": ["lo", "hi"],
    "examples": {"instances": [{"price": 1.0}], "predictions": [2.0]},
}


def test_everything_an_author_says_is_kept_and_round_trips():
    meta = read_meta(FULL)
    assert meta.tags == {"region": "nw"}
    assert meta.metrics == {"rmse": 1.5, "rows": 120.0}
    assert meta.trained_through == "2026-11-19"
    assert meta.classes == ("lo", "hi")
    assert read_meta(meta_body(meta)) == meta


@pytest.mark.parametrize("text", ["", b"", "{}", '{"tags": null, "classes": null, "examples": null}'])
def test_absent_and_null_say_nothing(text):
    assert parse_meta(text) == ModelMeta()


def test_true_and_one_are_different_classes():
    assert read_meta({"classes": [1, True]}).classes == (1, True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "x-model-meta"),
        ("text", "x-model-meta"),
        ({"tag": {}}, "tag"),
        ({"tags": []}, "tags"),
        ({"tags": {"region": 3}}, "tags.region"),
        ({"tags": {"region": "x" * 257}}, "tags.region"),
        ({"tags": {"": "x"}}, "tags"),
        ({"tags": {"a\nb": "x"}}, "tags"),
        ({"tags": {"n" * 129: "x"}}, "tags"),
        ({"tags": {str(i): "x" for i in range(65)}}, "tags"),
        ({"metrics": {"rmse": True}}, "metrics.rmse"),
        ({"metrics": {"rmse": "1"}}, "metrics.rmse"),
        ({"metrics": {"rmse": float("inf")}}, "metrics.rmse"),
        ({"metrics": {"rmse": 10**400}}, "metrics.rmse"),
        ({"provenance": {"run": {"id": 1}}}, "provenance.run"),
        ({"provenance": {"run": "\ud800"}}, "provenance.run"),
        ({"classes": "lo"}, "classes"),
        ({"classes": [1.5]}, "classes"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"examples": {"instances": []}}, "examples"),
        ({"examples": {"instances": [], "predictions": []}}, "examples"),
        ({"examples": {"instances": [[1]], "predictions": []}}, "examples"),
        ({"examples": {"instances": [[[[[[[[[[1]]]]]]]]]], "predictions": [1]}}, "examples"),
        ({"examples": {"instances": {}, "predictions": {}}}, "examples"),
        ({"examples": {"instances": [[1]] * 101, "predictions": [1] * 101}}, "examples"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_field(body, field):
    with pytest.raises(MetaInvalidError) as refused:
        read_meta(body)
    assert refused.value.field == field
    assert refused.value.code == "meta_invalid"


@pytest.mark.parametrize("text", ["{", "NaN", '{"metrics": {"rmse": NaN}}', b"\xff", '{"tags": '])
def test_text_that_is_no_json_is_refused(text):
    with pytest.raises(MetaInvalidError):
        parse_meta(text)


def test_limits_can_be_set():
    with pytest.raises(MetaInvalidError, match="limit is 1"):
        read_meta({"tags": {"a": "1", "b": "2"}}, MetaLimits(entries=1))
