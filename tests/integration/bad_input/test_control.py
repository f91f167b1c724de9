"""A bad control request is a problem with its code and field; and nothing has changed."""

import pytest

from tests.support.refusals import JSON, KEY, SIGNATURE, Bad, table
from tests.support.state import state_of


def defining(**changes):
    return "POST", "", {"json": {"name": "new", "key": ["store"], "signature": SIGNATURE} | changes}


def inputs(**changes):
    return defining(signature={"inputs": [{"name": "x"} | changes], "outputs": [{"name": "y"}]})


def outputs(**changes):
    return defining(signature={"inputs": [{"name": "x"}], "outputs": [{"name": "y"} | changes]})


def raw(content, **headers):
    return "POST", "", {"content": content, "headers": JSON | headers}


def promoting(body, **headers):
    return (
        "PUT",
        "/g/deployments",
        {"json": body, "headers": {name.replace("_", "-"): v for name, v in headers.items()}},
    )


def holding(params=KEY, **body):
    return "PUT", "/g/holds", {"params": params, "json": {"action": "disable", "reason": "r"} | body}


def building(**body):
    return "POST", "/g/releases", {"json": body}


def listing(params, path="/g/models"):
    return "GET", path, {"params": params}


@table(
    a_group_twice=Bad(defining(name="g"), 409, "group_exists", "name"),
    a_name_with_a_line_break=Bad(defining(name="new\n"), 400, "group_invalid", "name"),
    a_name_with_a_zero_byte=Bad(defining(name="ne\0w"), 400, "group_invalid", "name"),
    a_name_that_is_a_path=Bad(defining(name="../new"), 400, "group_invalid", "name"),
    a_name_of_64_characters=Bad(defining(name="n" * 64), 400, "group_invalid", "name"),
    a_name_of_other_letters=Bad(defining(name="n\u0435w"), 400, "group_invalid", "name"),
    a_name_that_is_a_number=Bad(defining(name=5), 400, "body_invalid", "name"),
    a_key_field_with_a_dash=Bad(defining(key=["store-id"]), 400, "group_invalid", "key"),
    a_key_field_with_a_line_break=Bad(defining(key=["store\n"]), 400, "group_invalid", "key"),
    a_reserved_key_field=Bad(defining(key=["group"]), 400, "group_invalid", "key"),
    nine_key_fields=Bad(defining(key=list("abcdefghi")), 400, "group_invalid", "key"),
    a_fallback_level_twice=Bad(defining(fallback=[[], []]), 400, "group_invalid", "fallback"),
    an_unknown_dtype=Bad(inputs(dtype="decimal"), 400, "body_invalid", "signature.inputs.0.dtype"),
    a_default_of_another_dtype=Bad(inputs(default="1"), 400, "signature_invalid", "signature.inputs.0"),
    a_default_past_float32=Bad(inputs(dtype="float32", default=1e39), 400, "signature_invalid", "signature.inputs.0"),
    a_null_default_that_may_not_be=Bad(inputs(default=None), 400, "signature_invalid", "signature.inputs.0"),
    categories_of_a_number=Bad(inputs(categories=["a"]), 400, "signature_invalid", "signature.inputs.0"),
    an_input_of_no_key_field=Bad(inputs(from_key="region"), 400, "signature_invalid", "signature.inputs.0"),
    a_text_for_nullable=Bad(inputs(nullable="yes"), 400, "body_invalid", "signature.inputs.0.nullable"),
    an_unknown_kind=Bad(outputs(kind="score"), 400, "body_invalid", "signature.outputs.0.kind"),
    one_class=Bad(outputs(kind="label", classes=["a"]), 400, "signature_invalid", "signature.outputs.0"),
    no_width=Bad(outputs(width=0), 400, "signature_invalid", "signature.outputs.0"),
    an_unknown_member=Bad(defining(sharding=1), 400, "body_invalid", "sharding"),
    a_member_twice=Bad(raw(b'{"name":"new","name":"new"}'), 400, "json_invalid", "name"),
    broken_json=Bad(raw(b'{"name":'), 400, "json_invalid"),
    deep_json=Bad(raw(b"[" * 2000 + b"]" * 2000), 400, "json_invalid"),
    a_list=Bad(raw(b"[]"), 400, "body_invalid"),
    too_many_bytes=Bad(raw(b'{"name":"%s"}' % (b"x" * 4096)), 413, "body_too_large"),
    text=Bad(
        ("POST", "", {"content": b"{}", "headers": {"content-type": "text/plain"}}), 415, "unsupported_media_type"
    ),
    gzip=Bad(
        ("POST", "", {"content": b"{}", "headers": JSON | {"content-encoding": "gzip"}}),
        415,
        "unsupported_media_type",
        "content-encoding",
    ),
    a_deletion_without_confirmation=Bad(("DELETE", "/g", {}), 400, "confirmation_required", "confirm"),
    a_deletion_with_another_name=Bad(
        ("DELETE", "/g", {"params": {"confirm": "G"}}), 400, "confirmation_required", "confirm"
    ),
    a_confirmation_twice=Bad(("DELETE", "/g", {"params": "confirm=g&confirm=g"}), 400, "parameter_invalid", "confirm"),
    a_deletion_of_no_group=Bad(("DELETE", "/no", {"params": {"confirm": "no"}}), 404, "group_not_found", "group"),
    a_limit_of_nothing=Bad(listing({"limit": "0"}), 400, "parameter_invalid", "limit"),
    a_limit_too_high=Bad(listing({"limit": "1001"}), 400, "parameter_invalid", "limit"),
    a_negative_limit=Bad(listing({"limit": "-1"}), 400, "parameter_invalid", "limit"),
    a_limit_that_is_no_number=Bad(listing({"limit": "ten"}), 400, "parameter_invalid", "limit"),
    a_limit_of_other_digits=Bad(listing({"limit": "\u0661\u0660"}), 400, "parameter_invalid", "limit"),
    a_cursor_of_nobody=Bad(listing({"cursor": "nonsense"}), 400, "cursor_invalid", "cursor"),
    an_empty_cursor=Bad(listing({"cursor": ""}), 400, "cursor_invalid", "cursor"),
    a_cursor_twice=Bad(listing("cursor=a&cursor=a"), 400, "parameter_invalid", "cursor"),
    a_filter_of_no_key_field=Bad(listing({"region": "nw"}), 400, "key_field_unknown", "region"),
    a_filter_of_nothing=Bad(listing({"store": ""}), 400, "key_type", "store"),
    too_many_parameters=Bad(listing("&".join(f"tag.{i}=a" for i in range(65))), 400, "parameter_invalid"),
    a_history_of_half_a_key=Bad(listing({"store": "1"}, "/g/models/history"), 400, "key_field_missing", "brand"),
    a_history_of_nothing=Bad(listing(KEY | {"store": "9"}, "/g/models/history"), 404, "version_not_found"),
    a_deletion_of_no_model=Bad(("DELETE", "/g/models", {"params": KEY | {"store": "9"}}), 404, "version_not_found"),
    an_import_of_no_number=Bad(listing({}, "/g/imports/one"), 404, "import_not_found"),
    a_release_of_no_number=Bad(listing({}, "/g/releases/01"), 404, "release_not_found"),
    a_release_that_is_not_there=Bad(listing({}, "/g/releases/99"), 404, "release_not_found", "release"),
    a_base_that_is_not_there=Bad(building(base=99), 404, "release_not_found", "release"),
    a_base_that_is_text=Bad(building(base="1"), 400, "body_invalid", "base"),
    a_version_that_is_not_there=Bad(building(set=[{"key": KEY, "version": 9}]), 404, "version_not_found", "set", 0),
    a_version_without_a_key=Bad(building(set=[{"version": 1}]), 400, "body_invalid", "set.0.key"),
    a_version_of_a_float_key=Bad(building(set=[{"key": KEY | {"store": 1.0}, "version": 1}]), 400, "key_type", "store"),
    a_negative_gate=Bad(building(gates={"max_lost": -1}), 400, "body_invalid", "gates.max_lost"),
    an_unknown_gate=Bad(building(gates={"max_new": 1}), 400, "body_invalid", "gates.max_new"),
    half_the_traffic=Bad(promoting({"blue": {"release": 1, "traffic": 50}}), 400, "deployment_invalid", "blue.traffic"),
    too_much_traffic=Bad(promoting({"blue": {"release": 1, "traffic": 101}}), 400, "body_invalid", "blue.traffic"),
    no_deployment=Bad(promoting({}), 400, "deployment_invalid", "deployments"),
    two_deployments=Bad(
        promoting({"blue": {"release": 1}, "green": {"release": 1}}), 400, "deployment_invalid", "deployments"
    ),
    a_promotion_of_nothing=Bad(promoting({"blue": {"release": 99}}), 404, "release_not_found", "release"),
    a_promotion_of_release_0=Bad(promoting({"blue": {"release": 0}}), 400, "body_invalid", "blue.release"),
    a_tag_without_quotes=Bad(promoting({"blue": {"release": 1}}, if_match="1-1"), 400, "parameter_invalid", "if-match"),
    a_tag_of_nobody=Bad(promoting({"blue": {"release": 1}}, if_match='"x"'), 412, "precondition_failed", "if-match"),
    a_weak_tag=Bad(promoting({"blue": {"release": 1}}, if_match='W/"1-1"'), 412, "precondition_failed", "if-match"),
    a_pin_without_a_version=Bad(holding(action="pin"), 400, "hold_invalid", "version"),
    a_pin_to_no_version=Bad(holding(action="pin", version=9), 404, "version_not_found"),
    a_version_on_a_disable=Bad(holding(version=1), 400, "hold_invalid", "version"),
    an_unknown_action=Bad(holding(action="stop"), 400, "body_invalid", "action"),
    a_hold_without_a_reason=Bad(holding(reason=""), 400, "body_invalid", "reason"),
    a_hold_that_has_ended=Bad(holding(until="2020-01-01"), 400, "hold_invalid", "until"),
    a_hold_until_no_time=Bad(holding(until="soon"), 400, "hold_invalid", "until"),
    a_hold_until_after_the_calendar=Bad(holding(until="9999-12-31T23:59:59-14:00"), 400, "hold_invalid", "until"),
    a_hold_on_half_a_key=Bad(holding({"store": "1"}), 400, "key_field_missing", "brand"),
    a_hold_on_a_key_field_twice=Bad(holding("store=1&brand=a&brand=a"), 400, "parameter_invalid", "brand"),
    a_hold_to_drop_that_is_not_there=Bad(("DELETE", "/g/holds", {"params": KEY}), 404, "hold_not_found"),
)
def test_a_bad_control_request_is_refused(house, refused, bad):
    method, path, sent = bad.sent
    refused(house.client.request(method, f"/v1/groups{path}", **sent), bad)
    assert [group["name"] for group in house.client.get("/v1/groups").json()["groups"]] == ["g"]


@table(
    no_group=Bad("store=1&brand=a", 400, "parameter_invalid", "group"),
    an_unknown_group=Bad("group=no&store=1&brand=a", 404, "group_not_found", "group"),
    half_a_key=Bad("group=g&store=1", 400, "key_field_missing", "brand"),
    an_unknown_field=Bad("group=g&store=1&brand=a&region=nw", 400, "key_field_unknown", "region"),
    a_field_twice=Bad("group=g&store=1&brand=a&store=1", 400, "parameter_invalid", "store"),
    an_empty_field=Bad("group=g&store=1&brand=", 400, "key_type", "brand"),
    a_key_without_a_model=Bad("group=g&store=9&brand=a", 404, "partition_not_found"),
)
def test_a_bad_lookup_is_refused(house, refused, bad):
    refused(house.client.get(f"/v1/discovery/lookup?{bad.sent}"), bad)


def test_a_bad_wait_is_refused(house, refused):
    for wait in ("soon", "-1s", "1h", "1e3", "\u0661s"):
        answer = house.client.get("/v1/discovery/snapshot", params={"since": "x", "wait": wait})
        refused(answer, Bad(None, 400, "parameter_invalid", "wait"))


def test_there_is_no_way_back_from_the_first_release(house):
    from manymodels import Client
    from manymodels.cli.session import HouseTransport
    from manymodels.errors import NothingReadyError

    before = state_of(house.home)
    with Client(HouseTransport(house)) as client, pytest.raises(NothingReadyError):
        client.rollback("g")
    assert state_of(house.home) == before
