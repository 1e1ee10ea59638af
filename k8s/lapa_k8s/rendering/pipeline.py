"""A pipeline's objects: a ConfigMap with the manifests of all stages, and the Job that sends them one by one.

Exit codes of the driver (see `lapa_k8s.errors`) are read by the pod failure policy:

| code | meaning | what happens |
|---|---|---|
| 0 | every stage has succeeded | the pipeline is complete |
| 75 | told to stop (a drained node, a suspended pipeline) | a new pod, at no cost |
| 8, 22, 23, 24, 26, 27, 28, 29 | not allowed, refused, a stage failed or was cancelled | it fails at once |
| others | the API is away or busy, the namespace's quota is in use | a new pod, until `backoffLimit` |
"""

import json

from lapa_k8s.base import Manifest
from lapa_k8s.errors import (
    AccessDenied,
    ClientMissing,
    JobFailed,
    JobVanished,
    KindNotServed,
    ManifestRefused,
    NameTaken,
    NotFound,
)
from lapa_k8s.names import (
    CONTENT_ANNOTATION,
    JOB_LABEL,
    MANAGED_LABELS,
    PIPELINE_LABEL,
    RUN_LABEL,
    STAGE_LABEL,
    STAGES_ANNOTATION,
    label_value,
)
from lapa_k8s.pipeline import PIPELINE, PipelineSpec
from lapa_k8s.rendering.command import PYTHON
from lapa_k8s.rendering.manifests import Submission, render
from lapa_k8s.rendering.paths import CONFIG_FOLDER
from lapa_k8s.rendering.pods import container_security, placement, pod_security, pull_secrets
from lapa_k8s.spec import JobSpec

CONTAINER = "pipeline"
PLAN_FILE = "pipeline.json"
STOPPED_CODE = 75
FINAL_ERRORS = (
    ClientMissing,
    AccessDenied,
    KindNotServed,
    NameTaken,
    NotFound,
    ManifestRefused,
    JobFailed,
    JobVanished,
)
BACKOFF_LIMIT = 30
"""Kubernetes waits up to six minutes between tries: an API server or a full quota may take some hours."""


def render_pipeline(spec: PipelineSpec) -> Submission:
    """The manifests of a pipeline; equal specs give equal ones."""
    labels = {
        **MANAGED_LABELS,
        "app.kubernetes.io/component": PIPELINE,
        STAGE_LABEL: PIPELINE,
        RUN_LABEL: label_value(spec.run),
        JOB_LABEL: spec.name,
    }
    metadata = {"name": spec.name, "namespace": spec.namespace, "labels": labels}
    steps = [_step(spec, stage)._asdict() for stage in spec.pending]
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**metadata, "annotations": {CONTENT_ANNOTATION: spec.content}},
        "immutable": True,
        "data": {PLAN_FILE: json.dumps(steps, indent=1, ensure_ascii=False)},
    }
    annotations = {CONTENT_ANNOTATION: spec.content, STAGES_ANNOTATION: json.dumps(_stages(spec))}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "annotations": annotations},
        "spec": _job(spec, labels),
    }
    return Submission(config_map=config_map, job=job)


def _step(spec: PipelineSpec, stage: JobSpec) -> Submission:
    """A stage's own manifests, with the pipeline's name on the job."""
    config_map, job = render(stage)
    metadata = job["metadata"]
    labelled = {**metadata, "labels": {**metadata["labels"], PIPELINE_LABEL: spec.name}}
    return Submission(config_map=config_map, job={**job, "metadata": labelled})


def _stages(spec: PipelineSpec) -> list[Manifest]:
    return [{"stage": item.stage, "job": None if item.stage in spec.made else item.name} for item in spec.stages]


def _job(spec: PipelineSpec, labels: dict[str, str]) -> Manifest:
    return {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": BACKOFF_LIMIT,
        "podFailurePolicy": {"rules": _failure_rules()},
        "ttlSecondsAfterFinished": spec.keep_seconds,
        "template": {
            "metadata": {"labels": {**labels, "sidecar.istio.io/inject": "false"}},
            "spec": {
                **placement(spec.node),
                **pull_secrets(spec.images),
                "serviceAccountName": spec.service_account,
                "automountServiceAccountToken": True,  # the one pod of ours that talks to the API
                "enableServiceLinks": False,
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 10,
                "securityContext": pod_security(spec.security),
                "containers": [_container(spec)],
                "volumes": [
                    {"name": "plan", "configMap": {"name": spec.name}},
                    {"name": "tmp", "emptyDir": {"sizeLimit": "100Mi"}},
                ],
            },
        },
    }


def _container(spec: PipelineSpec) -> Manifest:
    return {
        "name": CONTAINER,
        "image": spec.images.train,
        "imagePullPolicy": spec.images.pull_policy,
        "command": [PYTHON, "-m", "lapa_k8s.pipeline_driver", f"{CONFIG_FOLDER}/{PLAN_FILE}"],
        "env": [{"name": "HOME", "value": "/tmp"}, {"name": "PYTHONUNBUFFERED", "value": "1"}],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "plan", "mountPath": CONFIG_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _failure_rules() -> list[Manifest]:
    """The first rule that fits decides."""
    final = sorted(error.exit_code for error in FINAL_ERRORS)
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": _codes([STOPPED_CODE])},
        {"action": "FailJob", "onExitCodes": _codes(final)},
    ]


def _codes(values: list[int]) -> Manifest:
    return {"containerName": CONTAINER, "operator": "In", "values": values}
