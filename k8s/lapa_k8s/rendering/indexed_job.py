"""Job, `batch/v1`: what fits on one node needs no operator.

Exit codes (see `lapa.errors`) are read by the pod failure policy:

| code | meaning | what happens |
|---|---|---|
| 0 | done | the job is complete |
| 75 | stopped on SIGTERM, step saved | a new pod, at no cost |
| - | evicted, preempted, node gone | a new pod, at no cost |
| 2, 4, 5, 6, 8 | setting, checkpoint, training, policy, missing dependency | the job fails at once |
| others | data, tracking, killed | a new pod, until `backoffLimit` |
"""

from lapa_k8s.base import Manifest
from lapa_k8s.rendering.metadata import job_metadata
from lapa_k8s.rendering.pods import pod_template
from lapa_k8s.spec import JobSpec

CONTAINER = "lapa"
RESTART_CODES = (75,)
FINAL_CODES = (2, 4, 5, 6, 8)


def indexed_job(spec: JobSpec) -> Manifest:
    deadline = spec.restarts.deadline_seconds
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": job_metadata(spec),
        "spec": {
            "completionMode": "Indexed",  # pods have the stable host name `<job>-0`
            "completions": spec.nodes,
            "parallelism": spec.nodes,
            "backoffLimit": spec.restarts.retries,
            "podFailurePolicy": {"rules": _failure_rules()},
            "ttlSecondsAfterFinished": spec.restarts.keep_seconds,
            **({"activeDeadlineSeconds": deadline} if deadline else {}),
            # The failure policy reads exit codes of pods that stay failed, so a retry is a new pod.
            "template": pod_template(spec, container=CONTAINER, restart_policy="Never"),
        },
    }


def _failure_rules() -> list[Manifest]:
    """The first rule that fits decides."""
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": _codes(RESTART_CODES)},
        {"action": "FailJob", "onExitCodes": _codes(FINAL_CODES)},
    ]


def _codes(values: tuple[int, ...]) -> Manifest:
    return {"containerName": CONTAINER, "operator": "In", "values": list(values)}
