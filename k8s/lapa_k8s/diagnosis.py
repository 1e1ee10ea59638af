"""Why a job is where it is: one sentence, and what to do about it. Pure: from objects to words.

The first rule that has something to say decides; they go from what stops everything (a queue) to what stops one
container (an image).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from lapa_k8s.base import Manifest
from lapa_k8s.exit_codes import meaning_of
from lapa_k8s.image_pulls import WAITING_REASONS, explain_pull
from lapa_k8s.kinds import OPERATOR_NAMES, nodes_of
from lapa_k8s.names import QUEUE_LABEL
from lapa_k8s.queueing import explain_workload
from lapa_k8s.states import FINAL_STATES, JobState, State, ends, restarts, unschedulable, waiting
from lapa_k8s.words import Diagnosis, first_sentence

IDLE_SECONDS = 60
"""A job without status or pods for this long has nobody who runs it."""


class Facts(NamedTuple):
    """All that is known about a job."""

    job: Manifest
    state: JobState
    pods: Sequence[Manifest]
    events: Sequence[Manifest] = ()
    """Of the job and its pods, oldest first."""
    workload: Manifest | None = None
    """Kueue's."""
    position: int | None = None
    """In its queue, 1 is next."""
    age_seconds: int = 0

    @property
    def name(self) -> str:
        return str(self.job["metadata"]["name"])


def diagnose(facts: Facts) -> Diagnosis:
    rules: tuple[Callable[[Facts], Diagnosis | None], ...] = (
        _ended,
        _queued,
        _refused_pods,
        _nobody_runs_it,
        _unplaced,
        _container_waits,
        _volume,
        _lost_node,
        _restarting,
    )
    for rule in rules:
        if (found := rule(facts)) is not None:
            return found
    return _as_it_should(facts)


def _ended(facts: Facts) -> Diagnosis | None:
    if facts.state.state is State.SUCCEEDED:
        return Diagnosis("the job is done", "")
    if facts.state.state is State.DELETING:
        return Diagnosis("the job is being deleted; its pods may take their grace period to save", "")
    if facts.state.state is State.FAILED:
        digest = f"lapactl jobs digest {facts.name}"
        for end in ends(facts.pods)[:1]:
            meaning = meaning_of(end)
            return Diagnosis(
                f"the job failed: pod {end.pod} ended first, with exit code {end.exit_code}: {meaning.words}",
                f"{meaning.remedy}; `{digest}` has the traceback",
            )
        return Diagnosis(f"the job failed: {facts.state.reason}", f"see `{digest}`")
    return None


def _queued(facts: Facts) -> Diagnosis | None:
    if facts.state.state is State.SUSPENDED:
        return Diagnosis("the job is suspended", f"lapactl jobs resume {facts.name}")
    if facts.state.state is not State.QUEUED:
        return None
    queue = str(facts.job["metadata"]["labels"][QUEUE_LABEL])
    return explain_workload(facts.workload, queue=queue, position=facts.position)


def _refused_pods(facts: Facts) -> Diagnosis | None:
    """The operator tried to make pods, and the cluster did not let it."""
    if len(facts.pods) >= nodes_of(facts.job):
        return None
    for message in _messages(facts.events, "FailedCreate", "FailedCreatePod"):
        if "exceeded quota" in message:
            return Diagnosis(f"the namespace's quota has no room for its pods: {first_sentence(message)}",
                             "kubectl describe resourcequota; ask for less, or free some of it")  # fmt: skip
        if "PodSecurity" in message:
            return Diagnosis(f"the namespace's Pod Security level refuses its pods: {first_sentence(message)}",
                             "a policy or webhook changes the pods on their way; ask the platform team")  # fmt: skip
        if match := re.search(r'serviceaccounts? "([^"]+)" not found', message):
            return Diagnosis(f"there is no ServiceAccount '{match[1]}' in the namespace",
                             "create it, or set service_account in the cluster profile")  # fmt: skip
        return Diagnosis(f"its pods cannot be created: {first_sentence(message)}", "see `lapactl jobs show --events`")
    return None


def _nobody_runs_it(facts: Facts) -> Diagnosis | None:
    status = facts.job.get("status") or {}
    is_idle = not facts.pods and not status.get("conditions") and not status.get("active")
    if not is_idle or facts.age_seconds < IDLE_SECONDS:
        return None
    operator = OPERATOR_NAMES[facts.job["kind"]]
    return Diagnosis(
        f"nobody has taken it up in {facts.age_seconds} s: the cluster knows {facts.job['kind']}, "
        f"but {operator} does not answer",
        "ask the platform team whether the operator runs: kubectl get pods -n kubeflow",
    )


def _unplaced(facts: Facts) -> Diagnosis | None:
    stuck = [(pod, words) for pod in facts.pods if (words := unschedulable(pod)) is not None]
    if not stuck:
        return None
    count = f"{len(stuck)} of {nodes_of(facts.job)} pods have no node"
    words = stuck[0][1]
    for pattern, explain in _SCHEDULER:
        if match := re.search(pattern, words):
            return Diagnosis(*explain(count, match))
    return Diagnosis(f"{count}: {first_sentence(words)}", "kubectl describe nodes")


def _insufficient(count: str, match: re.Match[str]) -> tuple[str, str]:
    remedy = "ask for fewer --nodes or --gpus-per-node"
    if (setting := _SETTINGS.get(match[1])) is not None:
        remedy = f"if no node ever has as much, lower {setting} in the cluster profile"
    return f"{count}: no node has enough {match[1]} free", f"wait, or {remedy}; who has it: kubectl describe nodes"


_SETTINGS = {
    "cpu": "gpu_node.cpu",
    "memory": "gpu_node.memory_gib",
    "ephemeral-storage": "gpu_node.scratch.size_gib",
}
"""What asks for a resource, where it is not the number of nodes or GPUs."""


def _taint(count: str, match: re.Match[str]) -> tuple[str, str]:
    return (f"{count}: they are kept for others by the taint {match[1]}",
            "add it to gpu_node.tolerations in the cluster profile, if these nodes are meant")  # fmt: skip


_SCHEDULER: tuple[tuple[str, Callable[[str, re.Match[str]], tuple[str, str]]], ...] = (
    (
        r"persistentvolumeclaim|PersistentVolumeClaims|StorageClass",
        lambda count, _: (
            f"{count}: their scratch volume is not there",
            "check gpu_node.scratch.storage_class: kubectl get storageclass",
        ),
    ),
    (r"Insufficient ([\w./-]*\w)", _insufficient),
    (
        r"taint \{node\.kubernetes\.io/([\w-]+)",
        lambda count, match: (
            f"{count}: the nodes are not well ({match[1]})",
            "kubectl get nodes; ask the platform team",
        ),
    ),
    # Those of the control plane are for everybody, and never the reason.
    (r"taint \{(?!node-role\.kubernetes\.io/)([^}]*)\}", _taint),
    (
        r"didn't match (?:Pod's )?node (?:affinity|selector)",
        lambda count, _: (
            f"{count}: no node has the labels they ask for",
            "check gpu_node.node_selector in the cluster profile: kubectl get nodes --show-labels",
        ),
    ),
    (
        r"were unschedulable",
        lambda count, _: (f"{count}: the nodes are cordoned", "kubectl get nodes; ask the platform team"),
    ),
)


def _container_waits(facts: Facts) -> Diagnosis | None:
    for pod in facts.pods:
        for item in waiting(pod):
            reason, message = str(item.get("reason") or ""), str(item.get("message") or "")
            if reason in WAITING_REASONS:
                return explain_pull(pod, message, facts.events)
            if (found := _explain_waiting(pod, reason, message)) is not None:
                return found
    return None


def _explain_waiting(pod: Manifest, reason: str, message: str) -> Diagnosis | None:
    image = pod["spec"]["containers"][0].get("image", "")
    match reason:
        case "ErrImageNeverPull":
            return Diagnosis(f"the image {image} is not on the node, and images.pull_policy is Never",
                             "set images.pull_policy=IfNotPresent")  # fmt: skip
        case "CreateContainerConfigError":
            if match := re.search(r'(secret|configmap) "([^"]+)" not found', message):
                return Diagnosis(f"there is no {match[1]} '{match[2]}' in the namespace",
                                 f"kubectl create {match[1]} …, or correct the name in the profile")  # fmt: skip
            if match := re.search(r"couldn't find key (\S+) in Secret (\S+)", message):
                return Diagnosis(f"Secret {match[2]} has no key {match[1]}", "add the key to the Secret")
            return Diagnosis(
                f"the container cannot be set up: {first_sentence(message)}", "correct the cluster profile"
            )
        case "CreateContainerError" | "RunContainerError":
            return Diagnosis(f"the container cannot start: {first_sentence(message)}", "check the image")
        case _:
            return None


def _volume(facts: Facts) -> Diagnosis | None:
    if facts.state.state is not State.STARTING:
        return None
    for message in _messages(facts.events, "FailedMount", "FailedAttachVolume"):
        return Diagnosis(f"a volume cannot be mounted: {first_sentence(message)}",
                         "submit the same stage again: it puts back a ConfigMap that is gone")  # fmt: skip
    return None


def _lost_node(facts: Facts) -> Diagnosis | None:
    for pod in facts.pods:
        is_unknown = (pod.get("status") or {}).get("phase") == "Unknown" or (pod.get("status") or {}).get(
            "reason"
        ) == "NodeLost"
        if is_unknown:
            name, node = pod["metadata"]["name"], pod["spec"].get("nodeName", "?")
            return Diagnosis(
                f"node {node} does not answer, and pod {name} with it; the operator waits until the pod is gone",
                f"if the node is dead: kubectl delete pod {name} --force --grace-period=0",
            )
    return None


def _restarting(facts: Facts) -> Diagnosis | None:
    found = ends(facts.pods)
    if facts.state.state is not State.RESTARTING or not found:
        return None
    meaning = meaning_of(found[0])
    hope = "" if meaning.is_mended_by_restart else ", and a restart ends the same way"
    return Diagnosis(
        f"it starts again after {restarts(facts.pods)} restarts: pod {found[0].pod} ended first, with exit code "
        f"{found[0].exit_code}: {meaning.words}{hope}",
        f"{meaning.remedy}; `lapactl jobs digest {facts.name}` has the traceback",
    )


def _as_it_should(facts: Facts) -> Diagnosis:
    if facts.state.state is State.RUNNING:
        return Diagnosis(f"it runs: {facts.state.reason}", f"lapactl jobs logs {facts.name} --follow")
    if facts.state.state in FINAL_STATES:
        return Diagnosis(facts.state.reason, "")
    last = next(_messages(reversed(facts.events)), "")
    detail = f"; last: {first_sentence(last)}" if last else ""
    return Diagnosis(f"it is {facts.state.state}: {facts.state.reason}{detail}", "nothing yet; ask again in a minute")


def _messages(events: Sequence[Manifest] | Iterator[Manifest], *reasons: str) -> Iterator[str]:
    for event in events:
        if not reasons or event.get("reason") in reasons:
            yield str(event.get("message") or "")
