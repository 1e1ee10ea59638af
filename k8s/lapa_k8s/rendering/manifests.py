"""One submission: a ConfigMap with the resolved run, and the job that mounts it."""

from typing import NamedTuple, assert_never

import yaml

from lapa_k8s.base import Manifest
from lapa_k8s.names import CONTENT_ANNOTATION, TRACKING_ANNOTATION
from lapa_k8s.rendering.indexed_job import indexed_job
from lapa_k8s.rendering.paths import CONFIG_FILE
from lapa_k8s.rendering.pods import job_labels
from lapa_k8s.rendering.pytorchjob import pytorchjob
from lapa_k8s.rendering.trainjob import trainjob
from lapa_k8s.spec import JobSpec


class Submission(NamedTuple):
    """What is sent, in this order."""

    config_map: Manifest
    job: Manifest


def render(spec: JobSpec) -> Submission:
    """The manifests of a job; equal specs give equal ones."""
    return Submission(config_map=_config_map(spec), job=_job(spec))


def to_yaml(manifests: tuple[Manifest, ...]) -> str:
    """As `kubectl apply` takes them: one document each, the run's own YAML readable inside."""
    return "---\n".join(yaml.dump(item, Dumper=_Dumper, sort_keys=False, allow_unicode=True) for item in manifests)


def _job(spec: JobSpec) -> Manifest:
    match spec.operator:
        case "pytorchjob":
            return pytorchjob(spec)
        case "trainjob":
            return trainjob(spec)
        case "job":
            return indexed_job(spec)
        case _:
            assert_never(spec.operator)


def _config_map(spec: JobSpec) -> Manifest:
    # Where the job is never made, what clears the configuration away also ends the MLflow run.
    tracking = {TRACKING_ANNOTATION: spec.tracking_run_id} if spec.tracking_run_id else {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": job_labels(spec),
            "annotations": {CONTENT_ANNOTATION: spec.content, **tracking},
        },
        "immutable": True,  # a restart reads what the first start read
        "data": {CONFIG_FILE: spec.config},
    }


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Texts of several lines as blocks; no aliases, which some readers of manifests do not know."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
