"""Job specs of every shape, for the tests of the control plane."""

from typing import Any

from lapa_k8s.parts import (
    Images,
    NodeShape,
    ObjectStore,
    Scheduling,
    Scratch,
    SecretKey,
    Toleration,
    Topology,
    Tracking,
)
from lapa_k8s.pipeline import PipelineSpec
from lapa_k8s.spec import JobSpec

CONFIG = "name: demo\nseed: 0\n"
SMALL_NODE = NodeShape(gpus=0, cpu=2, memory_gib=4, shared_memory_gib=1, scratch=Scratch(size_gib=5))


def job_spec(**changes: Any) -> JobSpec:
    """A pretraining on 8 nodes of 8 GPUs, with what differs."""
    settings: dict[str, Any] = {
        "stage": "pretrain",
        "run": "demo",
        "config": CONFIG,
        "namespace": "team",
        "operator": "pytorchjob",
        "nodes": 8,
        "processes_per_node": 8,
        "node": NodeShape(),
    }
    return JobSpec(**{**settings, **changes})


FULL: dict[str, Any] = {
    "images": Images(train="registry.example/lapa-train@sha256:" + "0" * 64, pull_secrets=("registry",)),
    "node": NodeShape(
        rdma={"rdma/ib": 8},
        node_selector={"node.kubernetes.io/instance-type": "p5.48xlarge"},
        tolerations=(Toleration(key="nvidia.com/gpu", effect="NoSchedule"),),
        scratch=Scratch(size_gib=2000, storage_class="local-nvme"),
    ),
    "scheduling": Scheduling(
        queue="research", queue_priority="batch", topology=Topology(level="cloud.provider.com/topology-rack")
    ),
    "storage": ObjectStore(endpoint_url="https://s3.example", region="eu-central-1", secret="bucket"),
    "tracking": Tracking(uri="https://mlflow.example", secret="mlflow"),
    "tracking_run_id": "0123456789abcdef",
    "service_account": "lapa-runner",
    "secrets": {"HF_TOKEN": SecretKey(secret="huggingface", key="token")},
}
"""Everything a profile can say."""

GOLDEN: dict[str, JobSpec] = {
    "ingest": job_spec(stage="ingest", operator="job", nodes=1, processes_per_node=1, node=SMALL_NODE),
    "laq": job_spec(stage="laq", nodes=2),
    "label": job_spec(stage="label", nodes=4),
    "label-one-node": job_spec(stage="label", operator="job", nodes=1),
    "pretrain": job_spec(),
    "pretrain-everything": job_spec(**FULL),
    "pretrain-cpu": job_spec(nodes=2, processes_per_node=1, node=SMALL_NODE),
    "finetune": job_spec(stage="finetune", nodes=1),
    "evaluate": job_spec(
        stage="evaluate", operator="job", nodes=1, processes_per_node=1, node=NodeShape().with_gpus(1)
    ),
    "pretrain-trainjob": job_spec(operator="trainjob"),
    "pretrain-trainjob-everything": job_spec(operator="trainjob", **FULL),
}
"""By file name in `tests/k8s/golden`."""

PIPELINE = PipelineSpec(
    run="demo", namespace="team", stages=tuple(GOLDEN[name] for name in ("ingest", "laq", "label")), node=SMALL_NODE
)
"""Three stages, each of another kind of node."""
