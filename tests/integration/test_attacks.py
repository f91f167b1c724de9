"""What an attacker sends first: paths, headers, methods and bodies that aim past the front door. The house stays shut,
says nothing of its inside, and goes on answering."""

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from starlette.testclient import TestClient

from gateway.app import Front
from gateway.control.table import TABLE
from registry.home import Home
from registry.keys import key_id
from tests.support.constant import SIGNATURE, constant
from tests.support.house import running_house
from tests.support.state import state_of
from tests.support.tables import STREAM, made_live
from workers.segments.reader import Segment

G = "/v1/groups/g"
JSON = {"content-type": "application/json"}
CONTROL = "\x1b[31m\r\nset-cookie: a=b\x00"
PATHS = sorted({operation.path for operation in TABLE})


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A house of two keys, whose models are not loaded yet."""
    root = tmp_path_factory.mktemp("attacks")
    with running_house(root, warm_up=False, json_body_bytes=2048) as house:
        group = house.create("g", signature=SIGNATURE)
        made_live(house, group, [{"store": store, "brand": "a", "model": constant(int(store))} for store in "12"])
        yield house


@pytest.fixture
def outside(house):
    """A client that is answered even where the application fails, as over a socket."""
    with TestClient(Front(house.assembly.context), raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


@pytest.fixture(autouse=True)
def unharmed(house):
    """Whatever was sent: the home holds what it held, nothing lies beside it, and it answers."""
    around = {path.name for path in house.home.root.parent.iterdir()}
    before = state_of(house.home)
    yield
    assert state_of(house.home) == before
    assert {path.name for path in house.home.root.parent.iterdir()} == around
    assert house.predict(G, {"store": "1", "brand": "a"}).json()["predictions"] == [1.0]


def filled(path, group="g"):
    return path.replace("{group}", group).replace("{number}", "1").replace("{name}", "start.js")


def is_problem(answer):
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def test_a_predict_answered_on_the_spot_keeps_to_the_limit_of_bodies(house):
    front = Front(house.assembly.context)
    body = b'{"key": {"store": "1", "brand": "a"}, "instances": [{}]}'

    async def answer(body):
        return front.prompt_answer("g", [(b"content-type", b"application/json")], body)

    house.predict(G, {"store": "1", "brand": "a"})
    assert asyncio.run(answer(body)).status != 413
    assert asyncio.run(answer(body + b" " * 2048)) is None


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2f..%2fetc%2fpasswd",
        "%252e%252e%252f",
        "..%5c..%5cwindows",
        "%2fetc%2fpasswd",
        "g%00.db",
        "g%0d%0aset-cookie:a=b",
        "g%3B..%2f",
        "%c0%ae%c0%ae",
        "%ef%bc%8e%ef%bc%8e",
        "~root",
        "$(id)",
        "g'%20or%20'1'='1",
        "%20g",
        "g%20",
        "%7B%7Bconfig%7D%7D",
    ],
)
def test_no_name_leads_out_of_the_registry(outside, name):
    for operation in TABLE:
        if "{group}" in operation.path:
            headers = JSON | {"x-model-runtime": "lightgbm"}
            answer = outside.request(operation.method, filled(operation.path, name), content=b"{}", headers=headers)
            assert is_problem(answer)["code"] in ("group_not_found", "not_found", "method_not_allowed"), operation.name


@pytest.mark.parametrize("path", PATHS)
def test_a_path_with_a_slash_too_many_is_no_route_and_no_redirect(outside, path):
    method = next(operation.method for operation in TABLE if operation.path == path)
    for wrong in (filled(path) + "/", "/" + filled(path), filled(path).replace("/", "//")):
        answer = outside.request(method, f"http://localhost{wrong}", headers={"host": "evil.example"})
        assert is_problem(answer)["code"] == "not_found", wrong
        assert "location" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
def test_an_unknown_method_is_refused_by_every_route(outside, path):
    for method in ("TRACE", "CONNECT", "PROPFIND", "OPTIONS", "X" * 200, "GET\x1b"):
        answer = outside.request(method, filled(path), headers={"origin": "https://evil.example"})
        assert is_problem(answer)["code"] == "method_not_allowed", method
        assert not any(name.startswith("access-control-") for name in answer.headers)
        assert answer.headers["allow"]


@pytest.mark.parametrize("path", [path for path in PATHS if "snapshot" not in path])
def test_head_is_answered_like_get_and_refused_where_get_is(outside, path):
    got, headed = (outside.request(method, filled(path)) for method in ("GET", "HEAD"))
    assert got.status_code == headed.status_code
    assert got.headers["content-type"] == headed.headers["content-type"]


@pytest.mark.parametrize(
    "given", [CONTROL, "\x1b[2J", "a b", "a\nb", "", "x" * 129, "\u00e9", '"', "<script>", "a;b", "../a", "%0a"]
)
def test_a_request_id_that_could_do_harm_is_replaced(house, given):
    for answer in (
        house.client.get("/health/live", headers={"x-request-id": given.encode()}),
        house.client.get("/nowhere", headers={"x-request-id": given.encode()}),
        house.client.post(f"{G}/predict", content=b"{", headers=JSON | {"x-request-id": given.encode()}),
    ):
        told = answer.headers["x-request-id"]
        assert told != given
        assert told.isascii()
        assert told.isprintable()


def test_a_plain_request_id_is_kept_and_every_other_is_new(house):
    assert (
        house.client.get("/health/live", headers={"x-request-id": "job-7:a.b_c"}).headers["x-request-id"]
        == "job-7:a.b_c"
    )
    answers = [house.client.get("/health/live") for _ in range(5)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 5


def hostile_requests():
    """Requests that carry control characters wherever a problem might repeat them."""
    key = {"store": "1", "brand": "a"}
    rows = [{"price": 1.0}]
    return [
        ("POST", f"{G}/predict", {"content": orjson.dumps({"key": key | {CONTROL: "1"}, "instances": rows})}),
        ("POST", f"{G}/predict", {"content": orjson.dumps({"key": key | {"store": "9" + CONTROL}, "instances": rows})}),
        ("POST", f"{G}/predict", {"content": orjson.dumps({"key": key, "instances": [{CONTROL: 1}]})}),
        ("POST", f"{G}/predict", {"content": orjson.dumps({"key": key, "instances": [{"price": CONTROL}]})}),
        ("POST", f"{G}/predict", {"content": orjson.dumps({CONTROL: 1})}),
        ("POST", f"{G}/predict", {"content": b"{", "headers": {"content-type": CONTROL}}),
        ("POST", f"{G}/predict?{'%1b%0d%0a'}=1", {"content": b"{}"}),
        ("POST", f"{G}/predict/bulk", {"content": orjson.dumps({"columns": [CONTROL], "data": [[1]]})}),
        ("POST", f"{G}/predict/bulk", {"content": b"\x1b[31m", "headers": STREAM}),
        ("POST", "/v1/groups/%1b%5b31m%0d%0a/predict", {"content": b"{}"}),
        ("GET", "/v1/groups/%1b%5b31m%0d%0a", {}),
        ("GET", f"{G}/models", {"params": {CONTROL: "1"}}),
        ("GET", f"{G}/models", {"params": {"cursor": CONTROL}}),
        ("GET", f"{G}/models/history", {"params": key | {"store": CONTROL}}),
        ("GET", f"{G}/releases/{'%1b%0a'}", {}),
        ("PUT", f"{G}/deployments", {"json": {CONTROL: {"release": 1}}}),
        ("PUT", f"{G}/deployments", {"json": {"blue": {"release": 1}}, "headers": {"if-match": CONTROL}}),
        ("PUT", f"{G}/holds", {"params": key, "json": {"action": "disable", "reason": "r", "until": CONTROL}}),
        ("POST", "/v1/groups", {"json": {"name": CONTROL, "key": ["a"], "signature": SIGNATURE}}),
        ("POST", "/v1/groups", {"json": {"name": "x", "key": [CONTROL], "signature": SIGNATURE}}),
        ("POST", "/v1/groups", {"json": {CONTROL: 1}}),
        ("POST", f"{G}/models", {"params": key, "content": b"x", "headers": {"x-model-runtime": CONTROL}}),
        ("POST", f"{G}/models/bulk", {"params": {"on_error": CONTROL}, "content": b"x"}),
        ("GET", "/v1/discovery/lookup", {"params": {"group": CONTROL, **key}}),
        ("GET", "/v1/discovery/snapshot", {"params": {"wait": CONTROL}}),
    ]


def has_no_inside(text, home: Home):
    """No path, query, traceback or library of ours stands in a text."""
    inside = (
        str(home.root),
        str(Path.cwd()),
        "Traceback",
        ".py",
        "site-packages",
        "sqlite",
        "SELECT",
        "sqlalchemy",
        "0x",
    )
    return not any(word.lower() in text.lower() for word in inside)


def test_what_is_repeated_in_a_problem_is_escaped_short_and_tells_of_no_inside(house, outside, caplog):
    with caplog.at_level(logging.DEBUG, logger="manymodels"):
        for method, path, sent in hostile_requests():
            answer = outside.request(method, path, **sent)
            assert 400 <= answer.status_code < 500, (path, answer.text)
            is_problem(answer)
            assert not any(byte < 0x20 for byte in answer.content), (path, answer.content)
            assert "set-cookie" not in answer.headers
            assert has_no_inside(answer.text, house.home), (path, answer.text)
    assert not any("\x1b" in record.getMessage() or "\r" in record.getMessage() for record in caplog.records)


def test_a_problem_never_repeats_a_request_at_length(house, outside):
    long = "x" * 1500
    sent = [
        outside.post(f"{G}/predict", content=orjson.dumps({"key": {long: 1}, "instances": []}), headers=JSON),
        outside.post("/v1/groups", json={"name": long, "key": ["a"], "signature": SIGNATURE}),
        outside.post("/v1/groups", json={long: 1}),
        outside.post(f"/v1/groups/{long * 10}/predict", content=b"{}", headers=JSON),
        outside.get(f"{G}/models", params={long * 10: "1"}),
    ]
    for answer in sent:
        is_problem(answer)
        assert len(answer.content) < 2000, answer.text


def test_addresses_in_headers_are_never_believed(outside):
    forged = {
        "host": "evil.example",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "https",
        "forwarded": "host=evil.example",
        "x-original-url": "/v1/status",
        "x-http-method-override": "DELETE",
    }
    for path in ("/v1/groups", G, "/docs", "/openapi.json", "/v1/discovery/services", "/health/live"):
        answer = outside.get(path, headers=forged)
        assert answer.status_code == 200
        assert "evil.example" not in answer.text + str(answer.headers)
    refused = outside.post(f"{G}/releases", json={"base": 99}, headers=forged)
    assert "evil.example" not in refused.text + str(refused.headers)


def test_thousands_of_ranges_are_answered_with_the_whole_file(outside):
    whole = outside.get("/docs/assets/start.js")
    ranges = {"range": "bytes=" + ",".join(f"{at}-{at}" for at in range(5000))}
    ranged = outside.get("/docs/assets/start.js", headers=ranges)
    assert (ranged.status_code, ranged.content) == (200, whole.content)


def test_thousands_of_parameters_are_refused(outside):
    query = "&".join(f"tag.{i}=1" for i in range(5000))
    for path in (f"{G}/models", f"{G}/imports", "/v1/groups", "/v1/discovery/lookup"):
        assert is_problem(outside.get(f"{path}?{query}"))["code"] == "parameter_invalid"


def call(house, path, messages, method="POST", headers=JSON):
    """What the application sends to a request whose body arrives as these messages, and how many it took."""
    sent, taken, left = [], 0, iter(messages)

    async def receive():
        nonlocal taken
        taken += 1
        return next(left)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": None,
        "server": None,
    }
    asyncio.run(Front(house.assembly.context)(scope, receive, send))
    return sent, taken


def one_byte_each():
    while True:
        yield {"type": "http.request", "body": b"[", "more_body": True}


@pytest.mark.parametrize("path", [f"{G}/predict", f"{G}/predict/bulk", "/v1/groups", f"{G}/releases"])
def test_a_body_that_never_ends_is_read_up_to_the_limit_and_no_further(house, path):
    sent, taken = call(house, path, one_byte_each())
    assert sent[0]["status"] == 413
    assert taken <= 2048 + 1


@pytest.mark.parametrize("path", [f"{G}/predict", f"{G}/predict/bulk", "/v1/groups", f"{G}/models/bulk"])
def test_a_caller_who_leaves_in_the_middle_is_no_failure_of_ours(house, path, caplog):
    messages = [{"type": "http.request", "body": b'{"', "more_body": True}, {"type": "http.disconnect"}]
    with caplog.at_level(logging.DEBUG, logger="manymodels"):
        sent, _ = call(house, path, messages)
    assert not [message for message in sent if message.get("status") == 500]
    assert caplog.records == []


def test_a_failure_of_ours_tells_the_caller_its_id_and_the_log_everything(house, outside, caplog):
    swaps = ("import_rejects", "hidden"), ("hidden", "import_rejects")
    with closing(sqlite3.connect(house.home.root / "registry.db", isolation_level=None)) as conn:
        conn.execute("ALTER TABLE {} RENAME TO {}".format(*swaps[0]))
        try:
            answer = outside.get(f"{G}/imports/1/rejects", headers={"x-request-id": "find-me"})
        finally:
            conn.execute("ALTER TABLE {} RENAME TO {}".format(*swaps[1]))
    assert (answer.status_code, is_problem(answer)["code"]) == (500, "internal_error")
    assert has_no_inside(answer.text, house.home)
    assert [record for record in caplog.records if "find-me" in record.getMessage() and record.exc_info]


def test_a_model_that_was_tampered_with_on_the_disk_is_refused_and_its_neighbour_answers(house, outside, caplog):
    key = {"store": "2", "brand": "a"}
    digest = tamper(house, "store=2/brand=a")
    answer = outside.post(f"{G}/predict", json={"key": key, "instances": [{"price": 1.0}]})
    assert answer.status_code >= 500, answer.text
    body = is_problem(answer)
    assert has_no_inside(answer.text, house.home), body
    assert digest not in answer.text
    bulk = {"rows": [{"store": store, "brand": "a", "price": 1.0} for store in "12"]}
    told = outside.post(f"{G}/predict/bulk", json=bulk).json()
    assert told["predictions"] == [1.0, None]
    assert [error["row"] for error in told["errors"]] == [1]
    assert has_no_inside(str(told), house.home)


def tamper(house, key):
    """Turn a bit of one model in its segment; the digest of the segment."""
    context = house.assembly.context
    release = context.watcher.current.groups["g"].deployments["blue"].release
    for digest in (ref.digest for ref in release.manifest.segments):
        path = context.store.path(digest)
        segment = Segment.open(path)
        row = segment.find(key_id(key))
        if row >= 0:
            data, kept = bytearray(path.read_bytes()), segment.frame(row) or segment.packs.read(row)
            data[data.index(kept) + len(kept) // 2] ^= 1
            path.chmod(0o600)
            path.write_bytes(data)
            return digest
    raise AssertionError(f"{key} lies in no segment")
