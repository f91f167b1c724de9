import re
from pathlib import Path

import openapi_ui_bundles
import orjson
import pytest
from openapi_spec_validator import validate

from gateway.control import docs
from gateway.control.openapi import problem_codes
from gateway.control.table import TABLE, document
from gateway.problems import STATUS

SPEC = orjson.loads(document())
OPERATIONS = [(path, method, body) for path, methods in SPEC["paths"].items() for method, body in methods.items()]


def references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_the_document_is_valid_openapi_3_1():
    assert SPEC["openapi"] == "3.1.0"
    validate(SPEC)


def test_every_operation_of_the_table_is_documented_once():
    documented = {(body["operationId"], path, method.upper()) for path, method, body in OPERATIONS}
    assert documented == {(item.name, item.path, item.method) for item in TABLE if item.documented}
    assert len({name for name, _, _ in documented}) == len(documented)


def test_every_reference_resolves_and_every_component_is_used():
    named = {reference.rpartition("/")[2] for reference in references(SPEC)}
    assert named == set(SPEC["components"]["schemas"])


def test_every_path_parameter_is_declared():
    for path, _, body in OPERATIONS:
        declared = {parameter["name"] for parameter in body.get("parameters", ()) if parameter["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))


def test_every_problem_code_of_the_table_has_a_status():
    assert {code for operation in TABLE for code in problem_codes(operation)} <= set(STATUS)


def test_every_problem_response_is_problem_json_and_names_its_codes():
    for _, _, body in OPERATIONS:
        for status, response in body["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"]
                schema = response["content"]["application/problem+json"]["schema"]
                assert {STATUS[code] for code in schema["properties"]["code"]["enum"]} == {int(status)}


@pytest.mark.parametrize("path", ["/v1/groups/{group}/predict", "/v1/groups/{group}/predict/bulk"])
def test_the_data_routes_stand_in_the_same_document(path):
    assert "post" in SPEC["paths"][path]


def test_an_absent_default_is_not_documented_as_a_null_one():
    assert "default" not in SPEC["components"]["schemas"]["InputBody"]["properties"]["default"]


def test_the_docs_page_asks_nobody_outside():
    assert not re.search(rb"https?:|//[a-z]|@import|url\(", docs.PAGE + docs.START)
    assert b"validatorUrl: null" in docs.START
    directives = dict(part.strip().split(" ", 1) for part in docs.POLICY.split(";"))
    assert directives["default-src"] == "'none'"
    assert not any("http" in value or "*" in value for value in directives.values())


def test_every_file_of_the_docs_page_is_in_the_installed_package():
    asked = set(re.findall(rb"docs/assets/([\w.-]+)", docs.PAGE))
    assert {name.decode() for name in asked} == set(docs._TYPES)
    package = Path(openapi_ui_bundles.__file__).parent / "swagger_ui" / "vendor"
    assert {name for name in docs._TYPES if (package / name).is_file()} == set(docs._TYPES) - {"start.js"}


def test_links_lead_from_what_was_created_to_every_route_of_it():
    created = SPEC["paths"]["/v1/groups"]["post"]["responses"]["201"]["links"]
    of_group = {item.name for item in TABLE if re.findall(r"{(\w+)}", item.path) == ["group"]}
    assert set(created) == of_group
    built = SPEC["paths"]["/v1/groups/{group}/releases"]["post"]["responses"]["202"]["links"]
    assert built["getRelease"]["parameters"] == {
        "group": "$request.path.group",
        "number": "$response.body#/number",
    }
