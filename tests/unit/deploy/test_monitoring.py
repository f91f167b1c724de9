"""Prometheus, its alerts, Grafana's dashboard and the autoscaler ask for what there is at /metrics."""

import json

import promql_parser
import pytest
import yaml

from tests.support.deployed import DEPLOY, LISTENING, known_metrics, metrics_in

KNOWN = known_metrics()


def parsed(name):
    return yaml.safe_load((DEPLOY / name).read_text())


RULES = [rule for group in parsed("alerts.yml")["groups"] for rule in group["rules"]]
BOARD = json.loads((DEPLOY / "grafana" / "manymodels.json").read_text())
ADAPTED = parsed("prometheus-adapter.yaml")["rules"]["custom"]


def check(expression):
    """It is PromQL, and every metric in it is known."""
    promql_parser.parse(expression.replace("$__rate_interval", "5m"))
    assert metrics_in(expression) <= KNOWN


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_there_are(rule):
    check(rule["expr"])
    assert rule["annotations"]["summary"]


def test_alerts_have_names_of_their_own():
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("panel", BOARD["panels"], ids=lambda panel: panel["title"])
def test_a_panel_asks_for_metrics_there_are(panel):
    for target in panel["targets"]:
        assert metrics_in(target["expr"])
        check(target["expr"])


def test_panels_lie_side_by_side_and_ask_the_source_that_one_chooses():
    places = [tuple(panel["gridPos"].values()) for panel in BOARD["panels"]]
    assert len(set(places)) == len({panel["id"] for panel in BOARD["panels"]}) == len(places)
    [choice] = BOARD["templating"]["list"]
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} == {f"${{{choice['name']}}}"}


def test_grafana_finds_prometheus_and_the_dashboard_where_they_are():
    services = parsed("docker-compose.yml")["services"]
    [source] = parsed("grafana/datasource.yml")["datasources"]
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert any(published.endswith(f":{port}") for published in services[host]["ports"])
    [provider] = parsed("grafana/dashboards.yml")["providers"]
    places = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert places["./grafana/manymodels.json"].startswith(provider["options"]["path"])


def test_prometheus_asks_every_service_that_listens():
    services = parsed("docker-compose.yml")["services"]
    listening = {name for name, one in services.items() if one.get("command", [""])[0] in LISTENING}
    configs = parsed("prometheus.yml")["scrape_configs"][0]["static_configs"]
    assert {target for config in configs for target in config["targets"]} == {f"{name}:8080" for name in listening}
    for config in configs:
        assert all(target.startswith(config["labels"]["service"]) for target in config["targets"])


def test_what_the_autoscaler_is_told_is_made_of_a_metric_there_is():
    [rule] = ADAPTED
    assert metrics_in(rule["seriesQuery"]) <= KNOWN
    asked = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'pod="a"')
    check(asked)
