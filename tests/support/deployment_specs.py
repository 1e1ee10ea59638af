"""Deployments of every shape, for the tests of the control plane."""

from typing import Any

from lapa_k8s.deployment import DeploymentSpec, Pinned
from lapa_k8s.parts import Images, NodeShape, ObjectStore, Scratch, SecretKey, Toleration
from lapa_k8s.serving import Serving

TOKEN = SecretKey(secret="policy-token", key="token")
SMALL = NodeShape(gpus=0, cpu=2, memory_gib=4, shared_memory_gib=1, scratch=Scratch(size_gib=5))


def pinned(version: int = 3, **changes: Any) -> Pinned:
    return Pinned(
        **{
            "model": "lapa-policy",
            "version": version,
            "digest": f"{version:064x}",
            "url": f"s3://robots/policies/red-block-{version}",
            **changes,
        }
    )


def deployment_spec(version: int = 3, **changes: Any) -> DeploymentSpec:
    """One server on one GPU, with what differs."""
    settings: dict[str, Any] = {
        "name": "lapa-policy",
        "namespace": "team",
        "pinned": pinned(version),
        "serving": Serving(token=TOKEN),
    }
    return DeploymentSpec(**{**settings, **changes})


GOLDEN: dict[str, DeploymentSpec] = {
    "policy": deployment_spec(),
    "policy-everything": deployment_spec(
        images=Images(serve="registry.example/lapa-serve@sha256:" + "0" * 64, pull_secrets=("registry",)),
        serving=Serving(
            replicas=2,
            node=NodeShape(
                gpus=1, cpu=12, memory_gib=64, shared_memory_gib=4,
                node_selector={"node.kubernetes.io/instance-type": "g6.4xlarge"},
                tolerations=(Toleration(key="nvidia.com/gpu", effect="NoSchedule"),),
            ),
            port=9000,
            token=TOKEN,
            settings={"bounds": "refuse", "max_batch": 4, "deadline_seconds": 0.5},
            service_account="lapa-server",
            service_type="LoadBalancer",
            service_annotations={"service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"},
        ),
        storage=ObjectStore(endpoint_url="https://s3.example", region="eu-central-1", secret="bundles"),
        secrets={"HF_TOKEN": SecretKey(secret="huggingface", key="token")},
        environment={"OMP_NUM_THREADS": "8"},
        annotations={"example.com/team": "robots"},
    ),
    "policy-cpu-open": deployment_spec(serving=Serving(node=SMALL, is_open=True)),
}  # fmt: skip
"""By file name in `tests/k8s/golden/deployments`; the first also as an InferenceService."""
