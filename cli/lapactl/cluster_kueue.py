"""Whether Kueue was told to look after our kind of job: else it leaves PyTorchJobs alone, whatever queue they name.

Only its own configuration says so, which few may read; where it cannot be read, what Kueue did before is a proof.
"""

from typing import Any

import yaml

from lapa_k8s.client import Cluster
from lapa_k8s.errors import AccessDenied, KindNotServed, NotFound
from lapa_k8s.kinds import CONFIG_MAP, JOB_KINDS, WORKLOADS
from lapa_k8s.parts import Operator
from lapactl.checks import Check

FRAMEWORKS: dict[Operator, str] = {
    "pytorchjob": "kubeflow.org/pytorchjob",
    "trainjob": "trainer.kubeflow.org/trainjob",
    "job": "batch/job",
}
"""What Kueue calls the kinds of jobs."""
NAMESPACE, NAME, KEY = "kueue-system", "kueue-manager-config", "controller_manager_config.yaml"
"""Where Kueue's chart and manifests put its configuration."""
_ASK = f"ask the platform team: kubectl -n {NAMESPACE} get configmap {NAME} -o yaml"


def check_kueue(cluster: Cluster, namespace: str, *, operator: Operator, queue: str) -> Check:
    """Of a cluster that has Kueue, for jobs that name a queue."""
    framework = FRAMEWORKS[operator]
    try:
        text = (cluster.get(CONFIG_MAP, NAMESPACE, NAME).get("data") or {}).get(KEY, "")
    except (AccessDenied, NotFound) as error:
        why = "may not be read" if isinstance(error, AccessDenied) else "is not there"
        return _by_what_it_did(cluster, namespace, operator, f"ConfigMap {NAMESPACE}/{NAME} {why}")
    try:
        configuration = yaml.safe_load(text)
        frameworks = list(configuration["integrations"]["frameworks"])
    except (yaml.YAMLError, TypeError, KeyError):
        # Without a list Kueue takes the kinds of its own version.
        return _by_what_it_did(cluster, namespace, operator, f"ConfigMap {NAMESPACE}/{NAME} lists no frameworks")
    if framework not in frameworks:
        return Check(
            "kueue", "fail",
            f"Kueue leaves {framework} alone (it manages {', '.join(frameworks)}): jobs start past queue '{queue}'",
            f"ask the platform team to add {framework} to integrations.frameworks in ConfigMap {NAMESPACE}/{NAME}",
        )  # fmt: skip
    if not _is_all_or_nothing(configuration.get("waitForPodsReady")):
        return Check(
            "kueue", "warn",
            f"Kueue manages {framework}, without waitForPodsReady: two jobs can hold half of the machines each",
            "ask the platform team to set waitForPodsReady (docs/guide-platform.md, section 1)",
        )  # fmt: skip
    return Check("kueue", "ok", f"Kueue manages {framework} and waits for all pods of a job (waitForPodsReady)")


def _is_all_or_nothing(setting: Any) -> bool:
    """Until v1beta1 of its configuration it had a switch of its own; now its being there is the switch."""
    return isinstance(setting, dict) and bool(setting.get("enable", True))


def _by_what_it_did(cluster: Cluster, namespace: str, operator: Operator, why: str) -> Check:
    framework, kind = FRAMEWORKS[operator], JOB_KINDS[operator].kind
    for workload in _workloads(cluster, namespace):
        owners = workload["metadata"].get("ownerReferences") or []
        if any(owner.get("kind") == kind for owner in owners):
            return Check("kueue", "ok", f"Kueue manages {framework}: it took up {kind} '{owners[0].get('name')}' here")
    return Check("kueue", "unseen", f"whether Kueue manages {framework} cannot be seen: {why}", _ASK)


def _workloads(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    for kind in WORKLOADS:
        try:
            return cluster.select(kind, namespace)
        except KindNotServed:
            continue
        except AccessDenied:
            break
    return []
