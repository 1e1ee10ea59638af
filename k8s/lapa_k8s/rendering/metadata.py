"""Metadata of a job."""

from lapa_k8s.base import Manifest
from lapa_k8s.names import (
    CONTENT_ANNOTATION,
    QUEUE_LABEL,
    QUEUE_PRIORITY_LABEL,
    SHAPE_ANNOTATION,
    TRACKING_ANNOTATION,
)
from lapa_k8s.rendering.pods import job_labels
from lapa_k8s.spec import JobSpec


def job_metadata(spec: JobSpec) -> Manifest:
    queue = {QUEUE_LABEL: spec.scheduling.queue, QUEUE_PRIORITY_LABEL: spec.scheduling.queue_priority}
    return {
        "name": spec.name,
        "namespace": spec.namespace,
        "labels": {**job_labels(spec), **{name: value for name, value in queue.items() if value}},
        "annotations": {
            CONTENT_ANNOTATION: spec.content,
            SHAPE_ANNOTATION: str(spec.processes_per_node),
            **({TRACKING_ANNOTATION: spec.tracking_run_id} if spec.tracking_run_id else {}),
        },
    }
