"""How far a pipeline is, and stopping it."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.kinds import JOB, kind_of
from lapa_k8s.names import PIPELINE_LABEL, STAGE_LABEL, STAGES_ANNOTATION
from lapa_k8s.pipeline import PIPELINE
from lapa_k8s.records import Found, list_jobs
from lapa_k8s.states import FINAL_STATES, JobState, State, true_condition

MADE_BEFORE = "made before"
NOT_YET = "not submitted yet"


class StageProgress(NamedTuple):
    """One stage of a pipeline."""

    stage: str
    job: str | None
    """Null for a stage that was made before."""
    state: str
    """Of its job; or one of `made before` and `not submitted yet`."""


def is_pipeline(job: Manifest) -> bool:
    return (job["metadata"].get("labels") or {}).get(STAGE_LABEL) == PIPELINE


def progress_of(pipeline: Manifest, states: Mapping[str, JobState]) -> list[StageProgress]:
    """Its stages in order. `states` of jobs by name.

    A finished job is removed some day: one that is gone has succeeded if a later one is there, or the pipeline is done.
    """
    listed = json.loads((pipeline["metadata"].get("annotations") or {}).get(STAGES_ANNOTATION) or "[]")
    is_past = true_condition(pipeline, "Complete") is not None
    found: list[StageProgress] = []
    for item in reversed(listed):
        name = item["job"]
        if name is None:
            state = MADE_BEFORE
        elif name in states:
            state, is_past = str(states[name].state), True
        else:
            state = str(State.SUCCEEDED) if is_past else NOT_YET
        found.insert(0, StageProgress(item["stage"], name, state))
    return found


def current_stage(progress: Sequence[StageProgress]) -> StageProgress | None:
    """The last one that has a job; the one that the pipeline is at."""
    submitted = [item for item in progress if item.state not in (MADE_BEFORE, NOT_YET)]
    return submitted[-1] if submitted else None


def told(pipeline: JobState, progress: Sequence[StageProgress]) -> JobState:
    """The pipeline's state with the stage that it is at."""
    at = current_stage(progress)
    if at is None or pipeline.state in (State.SUCCEEDED, State.SUSPENDED, State.DELETING):
        return pipeline
    number = [item.stage for item in progress].index(at.stage) + 1
    return pipeline._replace(reason=f"stage {number} of {len(progress)}, {at.stage}: {at.state}")


def with_progress(found: Sequence[Found]) -> list[Found]:
    """Jobs, of which pipelines say where they are."""
    states = states_of(found)
    return [
        item._replace(state=told(item.state, progress_of(item.job, states))) if is_pipeline(item.job) else item
        for item in found
    ]


def states_of(found: Sequence[Found]) -> dict[str, JobState]:
    return {item.job["metadata"]["name"]: item.state for item in found}


def unfinished_stages(cluster: Cluster, namespace: str, pipeline: str) -> list[Manifest]:
    """The jobs that a pipeline submitted and that have not ended: one, as a rule. A job that somebody else had
    submitted before is not among them."""
    found = list_jobs(cluster, namespace, labels=f"{PIPELINE_LABEL}={pipeline}")
    return [item.job for item in found if item.state.state not in FINAL_STATES]


def cancel_pipeline(cluster: Cluster, namespace: str, pipeline: str) -> list[Manifest]:
    """Delete a pipeline, then the stage that it submitted; returns the stages' jobs.

    Its driver first, or it would report the stage as cancelled by somebody else; and the stages are looked up after
    that, so that one it has just submitted is found.
    """
    cluster.delete(JOB, namespace, pipeline)
    jobs = unfinished_stages(cluster, namespace, pipeline)
    for job in jobs:
        cluster.delete(kind_of(job), namespace, job["metadata"]["name"])
    return jobs
