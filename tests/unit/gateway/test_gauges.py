from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from discovery.snapshot import Member
from gateway.control.gauges import STATES, GroupGauges, members_of, metrics_of


def exposed(*groups):
    class Fixed(Collector):
        def collect(self):
            yield from metrics_of(list(groups))

    registry = CollectorRegistry()
    registry.register(Fixed())
    return generate_latest(registry).decode().splitlines()


def test_a_group_shows_the_age_of_its_live_release_and_its_models_by_state():
    lines = exposed(GroupGauges("oj", 12.5, dict.fromkeys(STATES, 3)))
    assert 'manymodels_release_age_seconds{group="oj"} 12.5' in lines
    assert [line for line in lines if line.startswith("manymodels_models{")] == [
        f'manymodels_models{{group="oj",state="{state}"}} 3.0' for state in STATES
    ]


def test_a_group_with_nothing_live_has_no_age():
    lines = exposed(GroupGauges("oj", None, {"registered": 0}))
    assert not any(line.startswith("manymodels_release_age_seconds{") for line in lines)
    assert 'manymodels_models{group="oj",state="registered"} 0.0' in lines


def test_no_group_shows_no_sample():
    assert not [line for line in exposed() if not line.startswith("#")]


def test_members_are_counted_by_what_they_serve_and_their_state_and_an_empty_state_is_nought():
    members = [
        Member("a", "http://a", "alive", ("gateway", "worker"), {}),
        Member("b", "http://b", "alive", ("worker",), {}),
        Member("c", "http://c", "suspect", ("worker",), {}),
    ]
    counted = {tuple(sample.labels.values()): sample.value for sample in members_of(members).samples}
    assert counted["gateway+worker", "alive"] == counted["worker", "alive"] == counted["worker", "suspect"] == 1
    assert counted["worker", "dead"] == counted["gateway+worker", "suspect"] == 0
