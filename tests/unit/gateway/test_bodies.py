import pytest

from gateway.control.bodies import DeploymentsBody, GroupBody, HoldBody, ReleaseBody, read_body_as
from gateway.errors import BodyInvalidError

GROUP = {
    "name": "oj-sales",
    "key": ["store", "brand"],
    "signature": {"inputs": [{"name": "price", "default": None, "nullable": True}], "outputs": [{"name": "sales"}]},
}


def refused(model, body):
    with pytest.raises(BodyInvalidError) as caught:
        read_body_as(model, body)
    return caught.value


def test_a_group_takes_its_defaults():
    body = read_body_as(GroupBody, GROUP)
    assert (body.shard_by, body.fallback, body.auto_release) == ([], [], True)


def test_a_signature_keeps_the_difference_between_no_default_and_a_null_one():
    body = read_body_as(GroupBody, GROUP)
    assert body.signature.model_dump(exclude_unset=True) == GROUP["signature"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"color": "red"}, "color"),
        ({"name": 7}, "name"),
        ({"auto_release": "true"}, "auto_release"),
        ({"auto_release": 1}, "auto_release"),
        ({"key": "store"}, "key"),
        ({"key": [1]}, "key.0"),
        ({"fallback": [["brand"], "all"]}, "fallback.1"),
        ({"signature": {"inputs": [{"name": "x", "dtype": "float16"}], "outputs": []}}, "signature.inputs.0.dtype"),
        ({"signature": {"inputs": [], "outputs": [{"nam": "y"}]}}, "signature.outputs.0.name"),
        ({"signature": None}, "signature"),
    ],
)
def test_a_malformed_group_is_refused_with_the_path_of_the_fault(change, field):
    assert refused(GroupBody, GROUP | change).field == field


@pytest.mark.parametrize("body", [[], None, "x", 3, True])
def test_a_body_that_is_no_object_is_refused_as_a_whole(body):
    problem = refused(GroupBody, body)
    assert problem.field is None
    assert "object" in problem.detail


def test_a_refusal_says_what_was_expected_and_how_much_more_is_wrong():
    problem = refused(GroupBody, {"name": "x", "colour": 1})
    assert problem.detail == "key: this member is required (and 2 more)"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"base": "3"}, "base"),
        ({"base": 0}, "base"),
        ({"base": 2**31}, "base"),
        ({"base": True}, "base"),
        ({"base": 1.5}, "base"),
        ({"gates": {"max_lost": -1}}, "gates.max_lost"),
        ({"gates": {"max_gone": 1}}, "gates.max_gone"),
        ({"set": [{"key": {}, "version": 1}, {"key": {}}]}, "set.1.version"),
    ],
)
def test_a_malformed_release_is_refused(body, field):
    assert refused(ReleaseBody, body).field == field


def test_an_empty_release_asks_for_everything_newer_and_an_empty_set_for_nothing():
    assert read_body_as(ReleaseBody, {}).set is None
    assert read_body_as(ReleaseBody, {"set": []}).set == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"blue": {"release": "4"}}, "blue.release"),
        ({"blue": {"traffic": 100}}, "blue.release"),
        ({"blue": {"release": 4, "traffic": 101}}, "blue.traffic"),
        ({"blue": {"release": 4, "weight": 100}}, "blue.weight"),
        ({"blue": 4}, "blue"),
    ],
)
def test_malformed_deployments_are_refused(body, field):
    assert refused(DeploymentsBody, body).field == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": "stop", "reason": "x"}, "action"),
        ({"action": "disable"}, "reason"),
        ({"action": "disable", "reason": ""}, "reason"),
        ({"action": "disable", "reason": "x" * 1001}, "reason"),
        ({"action": "pin", "reason": "x", "version": "1"}, "version"),
    ],
)
def test_a_malformed_hold_is_refused(body, field):
    assert refused(HoldBody, body).field == field


def test_a_whole_number_may_be_written_with_a_fraction_of_zero_as_json_has_one_kind_of_number():
    assert read_body_as(ReleaseBody, {"base": 4.0}).base == 4
    assert read_body_as(DeploymentsBody, {"blue": {"release": 4.0}}).root["blue"].release == 4
