"""The served OpenAPI document holds: schemathesis finds no answer that the document does not promise."""

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.support import models
from tests.support.house import SIGNATURE
from tests.support.served import served
from tests.support.waiting import SLOW_SECONDS, until

pytestmark = pytest.mark.timeout(900)  # many hundred requests, on a machine that may be busy with all other tests

ROOT = Path(__file__).parents[2]
# Which keys, releases and columns there are is the group's own matter: what the schema allows may be refused.
LIVE_GROUP = """
[parameters]
group = "oj"
"path.number" = 1
# What is deleted here is one model, named by the query; the list of the others stays.
[[operations]]
include-name = "GET /v1/groups/{group}/models"
checks.use_after_free.enabled = false
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "409", "412", "503"]
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A served home with one live group, `oj`."""
    with served(tmp_path_factory.mktemp("schemathesis") / "home", settings={"prove_seconds": SLOW_SECONDS}) as running:
        with httpx2.Client(base_url=running.url, timeout=2 * SLOW_SECONDS) as client:
            make_live(client)
        yield running.url


def make_live(client):
    body = {"name": "oj", "key": ["store", "brand"], "signature": SIGNATURE, "fallback": [["brand"], []]}
    assert client.post("/v1/groups", json=body).status_code == 201
    for key in ({"store": "2", "brand": "tropicana"}, {"brand": "tropicana"}, {}):
        answer = client.post(
            "/v1/groups/oj/models",
            params=key,
            content=models.lightgbm_regressor(1).data,
            headers={"x-model-runtime": "lightgbm"},
        )
        assert answer.status_code == 201, answer.text
    until(lambda: client.get("/v1/groups/oj").json()["live"] is not None, what="the first release")


def run(url, config, *options):
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", config, "run", f"{url}/openapi.json"]
    fixed = ["--seed", "1", "--no-color", "--generation-database", "none", "--warnings", "off", *options]
    done = subprocess.run([*command, *fixed], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_every_route_keeps_its_document_with_whatever_it_is_sent(url):
    run(url, ROOT / "schemathesis.toml", "--max-examples", "5")


def test_every_route_of_a_live_group_keeps_its_document(url, tmp_path):
    config = tmp_path / "live.toml"
    config.write_text(LIVE_GROUP)
    run(url, config, "--max-examples", "5", "--exclude-operation-id", "deleteGroup")
    assert httpx2.get(f"{url}/health/ready", timeout=60).status_code == 200
