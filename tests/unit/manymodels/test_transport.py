"""The HTTP transport: keep-alive, the one retry, and errors that say what to do."""

import socket
from io import BytesIO

import pytest

from manymodels.errors import TimedOutError, UnreachableError
from manymodels.http_transport import HttpTransport
from tests.support.scripted_server import Asked, Reply, serving


def test_requests_share_one_kept_alive_connection():
    with serving(lambda asked: Reply(body=b"x")) as server, HttpTransport(server.url) as transport:
        for _ in range(5):
            transport.request("GET", "/a", {})
    assert len(set(server.ports)) == 1


def test_an_answer_of_any_status_is_handed_over_with_lower_case_headers():
    with serving(lambda asked: Reply(418, b"tea", {"X-Kind": "Pot"})) as server, HttpTransport(server.url) as transport:
        answer = transport.request("GET", "/a", {})
    assert (answer.status, answer.headers["x-kind"], answer.body) == (418, "Pot", b"tea")


def test_percent_encoded_paths_arrive_untouched():
    path = "/v1/groups/g?store=..%2F%252F%3D%3B%26%23%3F%2B%20&brand=%F0%9F%A5%A4"
    with serving(lambda asked: Reply()) as server, HttpTransport(server.url) as transport:
        transport.request("GET", path, {})
    assert server.asked[0].path == path


def test_a_repeatable_call_survives_a_connection_closed_just_as_it_was_sent():
    replies = iter([Reply(body=b"1"), Reply(hang_up=True), Reply(body=b"2")])
    with serving(lambda asked: next(replies)) as server, HttpTransport(server.url) as transport:
        transport.request("GET", "/a", {})
        assert transport.request("GET", "/b", {}, repeatable=True).body == b"2"
    assert [asked.path for asked in server.asked] == ["/a", "/b", "/b"]


def test_a_call_is_repeated_only_once():
    with (
        serving(lambda asked: Reply(hang_up=True)) as server,
        HttpTransport(server.url) as transport,
        pytest.raises(UnreachableError, match="broke"),
    ):
        transport.request("GET", "/a", {}, repeatable=True)
    assert len(server.asked) == 2


def test_a_call_that_may_have_been_carried_out_is_never_repeated():
    with (
        serving(lambda asked: Reply(hang_up=True)) as server,
        HttpTransport(server.url) as transport,
        pytest.raises(UnreachableError, match="broke"),
    ):
        transport.request("POST", "/a", {}, b"body")
    assert len(server.asked) == 1


def test_an_unsent_call_is_sent_anew_when_the_idle_connection_is_seen_closed():
    replies = iter([Reply(headers={"connection": "close"}), Reply(body=b"2")])
    with serving(lambda asked: next(replies)) as server, HttpTransport(server.url) as transport:
        transport.request("POST", "/a", {}, b"1")
        assert transport.request("POST", "/a", {}, b"2").body == b"2"
    assert [asked.body for asked in server.asked] == [b"1", b"2"]


def test_a_file_is_sent_whole_from_its_start_with_its_length():
    file = BytesIO(b"x" * 100_000)
    file.seek(500)
    with serving(lambda asked: Reply()) as server, HttpTransport(server.url) as transport:
        transport.request("POST", "/a", {}, file)
    assert server.asked[0].body == b"x" * 100_000
    assert server.asked[0].headers["content-length"] == "100000"


def test_a_repeated_upload_sends_the_whole_file_again():
    replies = iter([Reply(hang_up=True), Reply()])
    with serving(lambda asked: next(replies)) as server, HttpTransport(server.url) as transport:
        transport.request("POST", "/a", {}, BytesIO(b"abc"), repeatable=True)
    assert [asked.body for asked in server.asked] == [b"abc", b"abc"]


def test_no_server_says_how_to_start_one():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with HttpTransport(url) as transport, pytest.raises(UnreachableError, match="manymodels serve"):
            transport.request("GET", "/", {})


def test_a_slow_server_is_a_timeout_that_names_the_limit():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with HttpTransport(url, timeout=0.05) as transport, pytest.raises(TimedOutError, match=r"0\.05 s"):
            transport.request("GET", "/", {})


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://x", "http://", "http://127.0.0.1:notaport"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UnreachableError, match="address"):
        HttpTransport(url)


def test_a_server_behind_a_path_is_asked_below_it():
    with serving(lambda asked: Reply()) as server, HttpTransport(server.url + "/models/") as transport:
        transport.request("GET", "/v1/groups", {})
    assert server.asked[0].path == "/models/v1/groups"


def test_redirects_are_not_followed():
    def script(asked: Asked) -> Reply:
        return Reply(307, b"", {"location": "/elsewhere"})

    with serving(script) as server, HttpTransport(server.url) as transport:
        assert transport.request("GET", "/a", {}).status == 307
