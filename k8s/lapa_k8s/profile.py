"""A cluster profile: what a platform team knows about a cluster once, so that users need not say it each time."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lapa_k8s.base import Spec
from lapa_k8s.parts import (
    Images,
    LabelName,
    Network,
    NodeShape,
    ObjectName,
    ObjectStore,
    Restarts,
    Scheduling,
    Scratch,
    SecretKey,
    Security,
    Tracking,
)
from lapa_k8s.secrets import refuse_secret_variables, refuse_secrets, texts_of
from lapa_k8s.serving import Serving
from lapa_k8s.spec import RuntimeRef


class ClusterProfile(Spec):
    """Where and how jobs run. Secrets are named, never held."""

    description: str = ""
    context: str | None = None
    """Context of the kubeconfig; the current one when null."""
    namespace: LabelName | None = None
    """The context's namespace when null."""
    operator: Literal["auto", "pytorchjob", "trainjob"] = "auto"
    """Who runs jobs of several nodes; `auto` looks which kinds the cluster serves, PyTorchJob first."""
    runtime: RuntimeRef = RuntimeRef()
    images: Images = Images()
    gpu_node: NodeShape = NodeShape()
    """A whole machine of the kind that trains."""
    cpu_node: NodeShape = NodeShape(gpus=0, cpu=16, memory_gib=64, shared_memory_gib=8, scratch=Scratch(size_gib=100))
    """What stages without a GPU get: `ingest`, and `evaluate` of a server that runs."""
    scheduling: Scheduling = Scheduling()
    storage: ObjectStore = ObjectStore()
    tracking: Tracking = Tracking()
    restarts: Restarts = Restarts()
    network: Network = Network()
    security: Security = Security()
    serving: Serving = Serving()
    """How `lapactl deploy` runs policies."""
    service_account: ObjectName | None = None
    """The pods' ServiceAccount: the place of cloud identity for S3. The namespace's default when null."""
    pipeline_service_account: ObjectName = "lapa-pipeline"
    """Who submits the stages of a pipeline, from inside the cluster."""
    environment: dict[str, str] = Field({})
    """More variables of the pods."""
    secrets: dict[str, SecretKey] = Field({})
    """Variables from existing Secrets, e.g. `HF_TOKEN: {secret: huggingface, key: token}`."""
    annotations: dict[str, str] = Field({})
    """More annotations of the pods."""
    settings: dict[str, Any] = Field({})
    """Settings of every run here, as `--set` would give them, e.g. `work_url: s3://team/lapa`. A project file, the
    environment and `--set` win over them."""

    @model_validator(mode="after")
    def _holds_no_secrets(self) -> Self:
        refuse_secret_variables(self.environment)
        for text in texts_of(self.settings):
            refuse_secrets("settings", text)
        return self

    @model_validator(mode="after")
    def _cpu_nodes_have_no_gpus(self) -> Self:
        if self.cpu_node.gpus:
            raise ValueError(f"cpu_node.gpus={self.cpu_node.gpus}: machines with GPUs are described by gpu_node")
        return self
