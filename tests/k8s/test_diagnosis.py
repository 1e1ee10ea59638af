"""Why a job is where it is, in one sentence that names the cause, with something to do."""

import pytest
from cluster_objects import event, job, pending_pod, pod, waiting_pod, workload

from lapa_k8s.diagnosis import Facts, diagnose
from lapa_k8s.exit_codes import meaning_of
from lapa_k8s.parts import Scheduling
from lapa_k8s.states import ContainerEnd, state_of
from lapa_k8s.words import Diagnosis

CONTROL_PLANE = "1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }"


def why(manifest: dict, pods: list = (), **known) -> Diagnosis:
    return diagnose(Facts(job=manifest, state=state_of(manifest, pods), pods=pods, **known))


def queued_job() -> dict:
    manifest = job(scheduling=Scheduling(queue="research"))
    manifest["spec"]["runPolicy"]["suspend"] = True
    return manifest


@pytest.mark.parametrize(
    ("reason", "message", "words"),
    [
        ("WaitingForQuota", "insufficient unused quota for nvidia.com/gpu", "quota is in use"),
        ("ExceedsMaxQuota", "128 > 64", "more than the queue can ever give"),
        ("NoMatchingFlavor", "", "flavors"),
        ("TopologyPlacementFailed", "", "close together"),
        ("WaitingForPreemptedWorkloads", "", "making room"),
        ("WaitingForPodsReady", "", "admitted job"),
        ("Misconfigured", "ClusterQueue is inactive", "not set up"),
        ("Pending", "LocalQueue research doesn't exist", "doesn't exist"),
        ("Pending", "insufficient quota in flavor h100, request > maximum capacity (64)", "ever give"),
        ("Pending", "insufficient unused quota for nvidia.com/gpu in flavor h100", "quota is in use"),
        ("", "", "has not looked at it yet"),
    ],
)  # fmt: skip
def test_a_queued_job_says_what_its_queue_says(reason: str, message: str, words: str):
    found = why(queued_job(), workload=workload(reason, message), position=3)
    assert "queue 'research', 3. in line" in found.why
    assert words in found.why
    assert found.remedy


def test_a_preempted_job_says_so():
    found = why(queued_job(), workload=workload("WaitingForQuota", evicted="Preempted"))
    assert "preempted by a job of higher priority" in found.why


def test_without_a_workload_the_queue_is_in_question():
    assert "kubectl get localqueue research" in why(queued_job()).remedy


def test_a_deactivated_workload_is_resumed():
    inactive = {**workload("Inactive"), "spec": {"active": False}}
    assert "lapactl jobs resume" in why(queued_job(), workload=inactive).remedy


@pytest.mark.parametrize(
    ("message", "words", "remedy"),
    [
        ("0/5 nodes are available: 5 Insufficient nvidia.com/gpu.", "enough nvidia.com/gpu free", "--nodes"),
        ("0/1 nodes are available: 1 Insufficient memory.", "enough memory free", "gpu_node.memory_gib"),
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", "labels", "node_selector"),
        ("0/2 nodes are available: 2 node(s) had untolerated taint {gpu: true}.", "taint gpu: true", "tolerations"),
        ("0/2 nodes are available: 2 node(s) had taint {gpu: true}, that the pod didn't tolerate.", "gpu",
         "tolerations"),
        (f"0/3 nodes are available: {CONTROL_PLANE}, 2 node(s) didn't match Pod's node affinity/selector.", "labels",
         "node_selector"),
        ("0/2 nodes are available: 2 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }.",
         "not well (disk-pressure)", "platform team"),
        ("0/2 nodes are available: 2 node(s) had no volume; StorageClass x", "scratch", "scratch"),
        ("0/2 nodes are available: 2 node(s) were unschedulable.", "cordoned", "kubectl get nodes"),
        ("something new", "something new", "kubectl describe nodes"),
    ],
)  # fmt: skip
def test_pods_without_a_node_say_what_the_scheduler_misses(message: str, words: str, remedy: str):
    found = why(job(), [pod(0), pending_pod(1, message)])
    assert "1 of 2 pods have no node" in found.why
    assert words in found.why
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("reason", "message", "words", "remedy"),
    [
        ("ImagePullBackOff", "pull access denied for x", "the registry wants a login", "pull_secrets"),
        ("ErrImagePull", "manifest unknown", "does not have it", "images.train"),
        ("ErrImagePull", "rpc error: code = Unknown desc = something new. More", "pulled: something new", "train"),
        ("InvalidImageName", "", "not valid", "images.train"),
        ("ErrImageNeverPull", "", "pull_policy is Never", "IfNotPresent"),
        ("CreateContainerConfigError", 'secret "bucket" not found', "no secret 'bucket'", "kubectl create secret"),
        ("CreateContainerConfigError", "couldn't find key X in Secret team/bucket", "no key X", "add"),
        ("CreateContainerError", "no such file python", "no such file python", "check the image"),
    ],
)  # fmt: skip
def test_a_container_that_cannot_start_says_why(reason: str, message: str, words: str, remedy: str):
    found = why(job(), [pod(0), waiting_pod(1, reason, message)])
    assert words in found.why
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("cause", "words", "remedy"),
    [
        ('failed to do request: Head "https://r.example/v2/": dial tcp: lookup r.example: no such host',
         "no registry of the name r.example", "DNS"),
        ('failed to do request: Head "https://r.example/v2/": dial tcp 10.0.0.1:443: i/o timeout', "reach", "whether"),
        ("docker.io/library/lapa-train:2: not found", "does not have it", "images.train"),
        ("unexpected status code 401 Unauthorized", "wants a login", "pull_secrets"),
        ("429 Too Many Requests - toomanyrequests: rate limit", "no more images for now", "mirror"),
    ],
)  # fmt: skip
def test_between_two_tries_to_pull_an_image_the_events_say_why(cause: str, words: str, remedy: str):
    image = "registry.example/lapa-train:1"
    # As a kubelet with containerd words them.
    failed = (
        f'Failed to pull image "{image}": rpc error: code = Unknown desc = failed to pull and unpack image: {cause}'
    )
    happened = [
        event("Failed", 'Failed to pull image "other": denied', "pod-0"),
        event("Failed", failed, "pod-1"),
        event("Failed", "Error: ImagePullBackOff", "pod-1"),
    ]
    waits = waiting_pod(1, "ImagePullBackOff", f'Back-off pulling image "{image}"')
    found = why(job(), [pod(0), waits], events=happened)
    assert f"the image {image} cannot be pulled: " in found.why
    assert words in found.why
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ('pods "x" is forbidden: exceeded quota: gpus, requested: 8', "quota has no room"),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', "Pod Security level"),
        ('pods "x" is forbidden: serviceaccounts "lapa-runner" not found', "lapa-runner"),
        ("admission webhook said no", "webhook said no"),
    ],
)  # fmt: skip
def test_pods_that_may_not_be_made_say_who_forbids_it(message: str, words: str):
    assert words in why(job(), events=[event("FailedCreate", message)]).why


def test_a_job_that_nobody_takes_up_names_the_operator_that_is_missing():
    assert "training-operator (v1) does not answer" in why(job(), age_seconds=300).why
    assert "Trainer (v2) does not answer" in why(job("trainjob"), age_seconds=300).why
    assert "does not answer" not in why(job(), age_seconds=5).why


def test_a_job_that_restarts_names_the_pod_that_ended_first():
    first = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:00Z"}
    second = {"exitCode": 1, "finishedAt": "2026-01-01T00:00:09Z"}
    found = why(job(), [pod(0, ended=second, restarts=1), pod(1, ended=first, restarts=1)])
    assert "worker-1 ended first" in found.why
    assert "OOMKilled" in found.why
    assert "a restart ends the same way" in found.why
    assert "memory_gib" in found.remedy


def test_a_failed_job_points_at_its_digest():
    end = {"exitCode": 2, "finishedAt": "2026-01-01T00:00:00Z"}
    found = why(job(conditions={"Failed": "too many restarts"}), [pod(0, phase="Failed", ended=end)])
    assert "a setting is impossible" in found.why
    assert "lapactl jobs digest" in found.remedy


def test_a_dead_node_is_named():
    assert "node node1 does not answer" in why(job(), [pod(0), pod(1, phase="Unknown", running=False)]).why


def test_a_running_job_has_nothing_wrong():
    assert why(job(), [pod(0), pod(1)]).why.startswith("it runs")


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7, 8, 26, 75, 134, 135, 137, 139, 143, 200])
def test_every_exit_code_means_something(code: int):
    meaning = meaning_of(ContainerEnd(pod="p", exit_code=code, reason="", message="", finished=""))
    assert meaning.words
    assert meaning.remedy
