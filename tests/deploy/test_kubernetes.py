"""The example for Kubernetes: valid by Kubernetes' own schemas, and what it promises."""

import kubernetes_validate
import pytest

from tests.deploy.files import DEPLOY, IMAGE, USER, WORKER_GRACE, Node, at, documents, items, mapping
from web.supervising import WEB_GRACE_SECONDS
from worker.settings import Settings
from worker.settings_text import PREFIX, SECRET_KEYS

KUBERNETES = "1.34"
"""Any release that is still supported would do; the kinds that are used here have not changed for years."""

OBJECTS = {
    (str(found["kind"]), str(at(found, "metadata", "name"))): found
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for found in documents(path)
}
[JOB] = [name for kind, name in OBJECTS if kind == "Job"]
PODS = {
    "web": at(OBJECTS["Deployment", "verisink-web"], "spec", "template"),
    "worker": at(OBJECTS["Deployment", "verisink-worker"], "spec", "template"),
    "migrate": at(OBJECTS["Job", JOB], "spec", "template"),
}


def container(name: str) -> Node:
    [found] = items(PODS[name], "spec", "containers")
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(("kind", "name"), OBJECTS)
def test_each_object_is_what_kubernetes_takes(kind, name):
    kubernetes_validate.validate(OBJECTS[kind, name], KUBERNETES, strict=True)


@pytest.mark.parametrize("name", PODS)
def test_each_pod_is_locked_in(name):
    pod, own = mapping(PODS[name], "spec"), container(name)
    assert pod["automountServiceAccountToken"] is False
    security = mapping(pod, "securityContext")
    assert (security["runAsNonRoot"], security["runAsUser"], security["runAsGroup"]) == (True, USER, USER)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (own["image"], own["args"]) == (IMAGE, [name])
    assert at(own, "resources", "limits", "memory")
    mounted = {str(at(mount, "mountPath")) for mount in items(own, "volumeMounts")}
    assert mounted == {"/etc/verisink", "/tmp", "/var/lib/verisink"}


def test_secrets_are_files_that_are_there():
    values = mapping(OBJECTS["ConfigMap", "verisink"], "data")
    files = set(mapping(OBJECTS["Secret", "verisink"], "stringData"))
    named = {str(value).removeprefix("/etc/verisink/") for value in values.values() if "/" in str(value)}
    assert named == files
    for key in values:
        setting = key.removeprefix(PREFIX).lower()
        assert setting not in SECRET_KEYS, key
        assert setting.removesuffix("_file") in {*Settings.model_fields, "config"}, key


def test_each_is_stopped_later_than_it_ends():
    pause = str(items(container("web"), "lifecycle", "preStop", "exec", "command")[-1])
    seconds = int(pause.partition("sleep(")[2].rstrip(")"))
    assert int(str(at(PODS["web"], "spec", "terminationGracePeriodSeconds"))) > WEB_GRACE_SECONDS + seconds
    assert int(str(at(PODS["worker"], "spec", "terminationGracePeriodSeconds"))) > WORKER_GRACE


def test_probes_ask_what_they_are_for():
    """One that killed receivers because the database is away would turn an outage into a worse one."""
    probes = {name: str(at(container("web"), name, "httpGet", "path")) for name in container("web") if "Probe" in name}
    assert probes == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}


def test_selectors_find_their_pods():
    for name in ("web", "worker"):
        labels = mapping(PODS[name], "metadata", "labels")
        deployment = OBJECTS["Deployment", f"verisink-{name}"]
        assert at(deployment, "spec", "selector", "matchLabels") == labels
        assert at(deployment, "spec", "strategy", "rollingUpdate", "maxUnavailable") == 0
        assert at(OBJECTS["PodDisruptionBudget", f"verisink-{name}"], "spec", "selector", "matchLabels") == labels
        for spread in items(PODS[name], "spec", "topologySpreadConstraints"):
            assert at(spread, "labelSelector", "matchLabels") == labels
    assert at(OBJECTS["Service", "verisink"], "spec", "selector") == mapping(PODS["web"], "metadata", "labels")


def test_workers_are_counted_by_the_autoscaler_alone():
    scaler = mapping(OBJECTS["HorizontalPodAutoscaler", "verisink-worker"], "spec")
    assert at(scaler, "scaleTargetRef", "name") == "verisink-worker"
    assert "replicas" not in mapping(OBJECTS["Deployment", "verisink-worker"], "spec")
    [metric] = items(scaler, "metrics")
    assert at(metric, "external", "metric", "name") == "verisink_overdue_seconds"


def test_only_webhooks_are_public():
    [rule] = items(OBJECTS["Ingress", "verisink-webhooks"], "spec", "rules")
    [path] = items(rule, "http", "paths")
    assert (at(path, "path"), at(path, "pathType")) == ("/webhooks/", "Prefix")
