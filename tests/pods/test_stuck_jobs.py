"""What `lapactl jobs why` and `digest` say about jobs that a real scheduler cannot place, or a real kubelet not run."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from desk import Desk, put_keys, wait_until
from node import Node

from tests.e2e.programs import ZERO3
from tests.s3_server import S3Server

pytestmark = pytest.mark.pods


def submitted(desk: Desk, *settings: str, nodes: int = 2, processes: int = 1) -> str:
    """The job of a stage with other settings."""
    words = [f"--set={setting}" for setting in (*ZERO3, *settings)]
    shape = ["--nodes", str(nodes), "--processes-per-node", str(processes)]
    return desk.says("submit", "laq", "--config", "run.yaml", *shape, *words)["job"]


def once(desk: Desk, verb: str, job: str, is_so: Callable[[Any], bool]) -> Any:
    """What a command says about a job, as soon as it says the right thing; what it says last where it never does."""
    said: list[Any] = []

    def look() -> bool:
        said.append(desk.says("jobs", verb, job))
        return is_so(said[-1])

    try:
        wait_until(look)
    except AssertionError as error:
        raise AssertionError(said[-1]) from error
    return said[-1]


def test_why_names_an_image_that_cannot_be_pulled(desk: Desk):
    job = submitted(desk, "cluster.images.train=registry.invalid/team/lapa-train:1")
    found = once(desk, "why", job, lambda said: "cannot be pulled" in said["why"])
    assert found["state"] == "starting"
    assert "registry.invalid/team/lapa-train:1" in found["why"]
    assert "images.train" in found["remedy"]


def test_why_names_labels_that_no_node_has(desk: Desk):
    job = submitted(desk, "cluster.gpu_node.node_selector.disk=fast")
    found = once(desk, "why", job, lambda said: "no node" in said["why"])
    assert found["state"] == "pending"
    assert "labels" in found["why"] and "node_selector" in found["remedy"]


def test_why_names_memory_that_no_node_has(desk: Desk):
    job = submitted(desk, "cluster.gpu_node.memory_gib=4000")
    found = once(desk, "why", job, lambda said: "no node" in said["why"])
    assert found["state"] == "pending"
    assert "memory" in found["why"]


def test_why_counts_the_pods_without_a_node_and_the_others_can_be_looked_into(desk: Desk):
    # Each pod takes more than half of the node: the first waits for the second.
    job = submitted(desk, f"cluster.gpu_node.cpu={(os.cpu_count() or 1) // 2 + 1}")
    found = once(desk, "why", job, lambda said: "1 of 2 pods have no node" in said["why"])
    assert "cpu" in found["why"] and "gpu_node.cpu" in found["remedy"]
    shown = once(desk, "show", job, lambda said: "Running" in [pod["phase"] for pod in said["pods"]])["pods"]
    (place,) = [index for index, pod in enumerate(shown) if pod["phase"] == "Running"]
    at = ("jobs", "exec", job, "--node", str(place), "--")
    assert desk.prints(*at, "sh", "-c", "id -u; hostname") == f"10001\n{shown[place]['pod']}\n"
    refused = desk.starts(*at, "touch", "/opt/lapa/x")
    assert "Read-only file system" in "".join(refused.communicate()) and refused.returncode == 20


def speakers(desk: Desk, job: str, *options: str) -> set[str]:
    """Who says something in the merged log."""
    return {line.partition("]")[0] for line in desk.prints("jobs", "logs", job, *options).splitlines()}


def test_the_digest_has_the_words_of_the_rank_that_failed_first(desk: Desk, node: Node, s3: S3Server):
    put_keys(node.cluster, desk.namespace, "stale", s3.access_key, "another-secret")
    job = submitted(desk, "cluster.storage.secret=stale", "cluster.restarts.retries=9", "cluster.restarts.in_place=0")
    found = once(desk, "digest", job, lambda said: said["rank"] is not None and said["endings"])
    assert found["rank"] in (0, 1) and found["pod"] == f"{job}-worker-{found['rank']}"
    assert found["kind"] == "the object store refused"
    assert found["error"].startswith("AccessRefused: s3://") and not found["traceback"], "a user can mend it: one line"
    assert "storage.secret" in found["remedy"]
    assert found["endings"][0]["exit_code"] not in (0, None)
    # A container that has just started again has said nothing yet.
    wait_until(lambda: {"[rank 0", "[rank 1"} <= speakers(desk, job))
    wait_until(lambda: speakers(desk, job, "--rank", "1") == {"[rank 1"})
    why = once(desk, "why", job, lambda said: said["state"] == "restarting")
    assert f"exit code {found['endings'][0]['exit_code']}" in why["why"] and "lapactl jobs digest" in why["remedy"]


def test_why_tells_of_a_pod_whose_ranks_use_more_memory_than_it_has(desk: Desk):
    # Each rank takes some 600 MB to load torch.
    shape = ("cluster.gpu_node.memory_gib=2", "laq.stream.lanes=8", "cluster.restarts.in_place=0")
    job = submitted(desk, *shape, nodes=1, processes=8)
    found = once(desk, "why", job, lambda said: "OOMKilled" in said["why"])
    assert found["state"] == "restarting"
    assert "gpu_node.memory_gib" in found["remedy"]
