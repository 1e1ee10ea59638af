"""A cluster of one node with the training image, the operator's stand-in, and servers that its pods reach."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from container_engine import missing_programs, train_image
from desk import Desk, new_desk, wait_until
from mlflow_server import MlflowServer
from node import HOST_ADDRESS, Node, missing_parts, running_node
from training_operator import running_training_operator

from lapa_k8s.client import Cluster
from lapa_k8s.errors import NotFound
from lapa_k8s.kinds import POD, PYTORCHJOB, SERVICE_ACCOUNT
from lapa_k8s.submission import serves
from tests.s3_server import S3Server, running_s3

DEFINITIONS = Path(__file__).parents[1] / "k8s" / "crds" / "pytorchjobs.yaml"
SHAPE = {"gpus": 0, "cpu": 1, "memory_gib": 3, "shared_memory_gib": 1, "scratch": {"size_gib": 5}}
STEPS = 240


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    if reason := missing_parts() or missing_programs():
        pytest.skip(reason)
    with running_node(tmp_path_factory.mktemp("node")) as started:
        for body in yaml.safe_load_all(DEFINITIONS.read_text()):
            started.cluster.post_path("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
        wait_until(lambda: serves(started.cluster, PYTORCHJOB))
        yield started


@pytest.fixture(scope="session")
def image(node: Node) -> str:
    """The training image, as pods of the node call it."""
    return node.load(train_image(node.podman))


@pytest.fixture(scope="session")
def s3(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3"), HOST_ADDRESS) as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_server(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"), HOST_ADDRESS)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def namespace(node: Node) -> str:
    """A new one for each test, with the account that its pods need."""
    name = f"team-{uuid.uuid4().hex[:8]}"
    node.cluster.post_path("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    wait_until(lambda: has_account(node.cluster, name))
    return name


def has_account(cluster: Cluster, namespace: str) -> bool:
    try:
        cluster.get(SERVICE_ACCOUNT, namespace, "default")
        return True
    except NotFound:
        return False


@pytest.fixture
def desk(
    node: Node, namespace: str, image: str, s3: S3Server, mlflow_server: MlflowServer, tmp_path: Path
) -> Iterator[Desk]:
    """An operator looks after what is submitted from here, and removes what is left of it."""
    profile = {
        "images": {"train": image},
        "gpu_node": SHAPE,
        "tracking": {"uri": mlflow_server.uri},
        "restarts": {"step_seconds": 30, "save_seconds": 60},
    }
    fit = {"steps": STEPS, "validate_every": STEPS, "checkpoint_every": 20}
    found = new_desk(tmp_path, node.cluster, namespace, s3, kubeconfig=node.kubeconfig, profile=profile, fit=fit)
    with running_training_operator(node.cluster, namespace):
        yield found
        for job in node.cluster.select(PYTORCHJOB, namespace):
            node.cluster.delete(PYTORCHJOB, namespace, job["metadata"]["name"])
        wait_until(lambda: not node.cluster.select(POD, namespace))
