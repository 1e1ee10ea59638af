"""What state a job is in: one table, whoever runs its pods.

| state | when |
|---|---|
| deleting | the job is being deleted |
| succeeded | its condition Succeeded (PyTorchJob) or Complete (TrainJob, Job) is true |
| failed | its condition Failed is true |
| queued | suspended, and it has a Kueue queue: waits to be admitted |
| suspended | suspended by a user |
| restarting | a container ended and starts again, or the operator says so |
| running | every pod's container runs |
| starting | pods are placed; images, volumes or peers are on their way |
| pending | no pods yet, or one has no place |

Conditions are read by their status, not by their order: the last one of a finished PyTorchJob may be an old one.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from lapa_k8s.base import Manifest
from lapa_k8s.kinds import is_suspended, nodes_of
from lapa_k8s.names import QUEUE_LABEL


class State(StrEnum):
    """See the table above."""

    PENDING = "pending"
    QUEUED = "queued"
    SUSPENDED = "suspended"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DELETING = "deleting"


FINAL_STATES = (State.SUCCEEDED, State.FAILED)


class JobState(NamedTuple):
    """A state, and why, in a few words."""

    state: State
    reason: str


class ContainerEnd(NamedTuple):
    """How a container ended, now or the last time."""

    pod: str
    exit_code: int
    reason: str
    message: str
    finished: str


def state_of(job: Manifest, pods: Sequence[Manifest]) -> JobState:
    """The state of a job with the pods that carry its label."""
    if job["metadata"].get("deletionTimestamp"):
        return JobState(State.DELETING, "deleted; its pods save and stop")
    for names, state in ((("Succeeded", "Complete"), State.SUCCEEDED), (("Failed",), State.FAILED)):
        for name in names:
            if (condition := true_condition(job, name)) is not None:
                return JobState(state, _words(condition))
    if is_suspended(job):
        queue = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)
        if queue:
            return JobState(State.QUEUED, f"waits in queue '{queue}'")
        return JobState(State.SUSPENDED, "suspended; `lapactl jobs resume` starts it again")
    return _state_of_pods(job, [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")])


def _state_of_pods(job: Manifest, pods: Sequence[Manifest]) -> JobState:
    wanted = nodes_of(job)
    if not pods:
        return JobState(State.PENDING, "no pods yet")
    unplaced = [pod for pod in pods if unschedulable(pod) is not None]
    if unplaced:
        return JobState(State.PENDING, f"{len(unplaced)} of {wanted} pods have no place")
    restarting = [pod for pod in pods if _is_restarting(pod)]
    if restarting:
        return JobState(State.RESTARTING, f"{len(restarting)} of {wanted} pods start again")
    running = [pod for pod in pods if _phase(pod) in ("Running", "Succeeded") and not list(waiting(pod))]
    if len(running) < wanted:
        if (condition := true_condition(job, "Restarting")) is not None:
            return JobState(State.RESTARTING, _words(condition))
        return JobState(State.STARTING, f"{len(running)} of {wanted} pods run")
    return JobState(State.RUNNING, f"{_count(wanted, 'pod')}, {_count(restarts(pods), 'restart')}")


def restarts(pods: Sequence[Manifest]) -> int:
    """Restarts of containers, summed over the pods that are there."""
    return sum(int(status.get("restartCount", 0)) for pod in pods for status in container_statuses(pod))


def true_condition(holder: Manifest, kind: str) -> Manifest | None:
    for condition in (holder.get("status") or {}).get("conditions") or []:
        if condition.get("type") == kind and condition.get("status") == "True":
            return dict(condition)
    return None


def unschedulable(pod: Manifest) -> str | None:
    """The scheduler's words about a pod without a place."""
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "unschedulable")
    return None


def container_statuses(pod: Manifest) -> list[dict[str, Any]]:
    return list((pod.get("status") or {}).get("containerStatuses") or [])


def waiting(pod: Manifest) -> Iterator[dict[str, Any]]:
    """What containers wait for: `reason` and `message`."""
    for status in container_statuses(pod):
        if found := (status.get("state") or {}).get("waiting"):
            yield found


def ends(pods: Sequence[Manifest]) -> list[ContainerEnd]:
    """Containers that ended with an error, first one first: the cause is there, what follows are its victims."""
    found = []
    for pod in pods:
        for status in container_statuses(pod):
            for moment in (status.get("lastState") or {}, status.get("state") or {}):
                end = moment.get("terminated")
                if end and end.get("exitCode"):
                    found.append(
                        ContainerEnd(
                            pod=pod["metadata"]["name"],
                            exit_code=int(end["exitCode"]),
                            reason=str(end.get("reason") or ""),
                            message=str(end.get("message") or ""),
                            finished=str(end.get("finishedAt") or ""),
                        )
                    )
    return sorted(found, key=lambda end: (end.finished, end.pod))


def _is_restarting(pod: Manifest) -> bool:
    if _phase(pod) == "Failed" or any(item.get("reason") == "CrashLoopBackOff" for item in waiting(pod)):
        return True
    return any(int(status.get("restartCount", 0)) > 0 and _is_down(status) for status in container_statuses(pod))


def _is_down(status: Manifest) -> bool:
    """Neither running nor done."""
    state = status.get("state") or {}
    end = state.get("terminated") or {}
    return state.get("running") is None and (not end or bool(end.get("exitCode")))


def _phase(pod: Manifest) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _words(condition: Manifest) -> str:
    return str(condition.get("message") or condition.get("reason") or condition.get("type"))
