"""Names of jobs and the labels that find them again."""

import hashlib
import json
import re
from typing import Any

MAX_NAME = 45
"""Of a job. What operators derive from it must be a DNS label of at most 63 characters: a PyTorchJob's pods and
Services are `<job>-worker-<i>`, a TrainJob's pods `<job>-node-0-<i>-<5 letters>`."""
LABEL_DOMAIN = "lapa.dev"

STAGE_LABEL = f"{LABEL_DOMAIN}/stage"
RUN_LABEL = f"{LABEL_DOMAIN}/run"
JOB_LABEL = f"{LABEL_DOMAIN}/job"
PIPELINE_LABEL = f"{LABEL_DOMAIN}/pipeline"
"""On a stage's job: the pipeline that submitted it."""
CONTENT_ANNOTATION = f"{LABEL_DOMAIN}/content-hash"
TRACKING_ANNOTATION = f"{LABEL_DOMAIN}/mlflow-run-id"
SUBMISSION_ANNOTATION = f"{LABEL_DOMAIN}/submission"
"""On a job, random: which call created it. Only that one removes it again when it is stopped."""
SHAPE_ANNOTATION = f"{LABEL_DOMAIN}/processes-per-node"
STAGES_ANNOTATION = f"{LABEL_DOMAIN}/stages"
"""On a pipeline: its stages in order, as JSON `[{"stage": …, "job": …}]`; the job is null for one made before."""

DEPLOYMENT_LABEL = f"{LABEL_DOMAIN}/deployment"
"""On everything of a deployed policy: the name under which robots reach it."""
RELEASE_LABEL = f"{LABEL_DOMAIN}/release"
"""On the servers of one version; the Service selects by it."""
MODEL_ANNOTATION = f"{LABEL_DOMAIN}/model"
VERSION_ANNOTATION = f"{LABEL_DOMAIN}/model-version"
DIGEST_ANNOTATION = f"{LABEL_DOMAIN}/bundle-digest"
BUNDLE_ANNOTATION = f"{LABEL_DOMAIN}/bundle-url"
RECORD_ANNOTATION = f"{LABEL_DOMAIN}/deployment-record"
"""On the Service: what ran, as JSON (`deployment_record.py`)."""
CLAIM_LABEL = f"{LABEL_DOMAIN}/claim"
"""On a release: which command answers for it last; only that one may delete it. No annotation: a change of those counts
as a new generation, and a release that is warm would have to be looked at by the Deployment controller first."""

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
QUEUE_PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"

MANAGED_LABELS = {"app.kubernetes.io/name": "lapa", "app.kubernetes.io/managed-by": "lapactl"}
MANAGED_SELECTOR = ",".join(f"{name}={value}" for name, value in MANAGED_LABELS.items())


def job_name(run: str, stage: str, content_hash: str, attempt: str = "") -> str:
    """`<run>-<stage>-<hash>`: a DNS-1035 label of at most 45 characters, the run's name cut where it is too long.

    `attempt` tells two submissions of the same content apart.
    """
    tail = "-".join(part for part in (stage, content_hash[:8], attempt) if part)
    head = re.sub(r"[^a-z0-9]+", "-", run.lower())
    if not head[:1].isalpha():
        head = f"run-{head}"  # a DNS-1035 label begins with a letter
    return f"{head[: MAX_NAME - len(tail) - 1].strip('-')}-{tail}"


def content_hash(content: Any) -> str:
    """Names plain data by what it says."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def label_value(text: str) -> str:
    """A text as a label's value: at most 63 of `[A-Za-z0-9._-]`, alphanumeric at both ends."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("-._")
