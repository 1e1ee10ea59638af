"""What a cluster profile and a job have in common: nodes, scheduling, storage, tracking, restarts."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from lapa_k8s.base import Spec
from lapa_k8s.secrets import refuse_secrets

ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
"""A DNS-1123 name: most objects."""
LabelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
"""A DNS-1123 label: namespaces, queues."""

Operator = Literal["pytorchjob", "trainjob", "job"]
"""Who runs a job's pods: Kubeflow's training operator (v1), Kubeflow Trainer (v2), or Kubernetes itself."""


class Toleration(Spec):
    """A taint that the pods put up with."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="after")
    def _a_value_goes_with_equal(self) -> Self:
        if (self.value is not None) != (self.operator == "Equal"):
            raise ValueError("a value goes with operator Equal, and only there")
        return self


class Scratch(Spec):
    """Fast local space of a pod: shards, checkpoints on their way out, caches. Gone with the pod."""

    size_gib: int = Field(200, gt=0)
    storage_class: ObjectName | None = None
    """Takes a volume of this class for the pod's lifetime; the node's own disk when null."""


class NodeShape(Spec):
    """What one pod gets: as a rule a whole machine."""

    gpus: int = Field(8, ge=0)
    gpu_resource: str = "nvidia.com/gpu"
    cpu: int = Field(96, gt=0)
    """Cores, for all of `gpus`; fewer GPUs get their share."""
    memory_gib: int = Field(960, gt=0)
    """For all of `gpus`; shared memory counts against it."""
    shared_memory_gib: int = Field(64, gt=0)
    """Size of `/dev/shm`, where decoding workers and NCCL put what they pass on; a container has 64 MiB otherwise."""
    scratch: Scratch = Scratch()
    rdma: dict[str, int] = Field({})
    """Device plug-in resources of the fast network, e.g. `rdma/ib: 8` or `vpc.amazonaws.com/efa: 32`."""
    node_selector: dict[str, str] = Field({})
    tolerations: tuple[Toleration, ...] = ()

    @model_validator(mode="after")
    def _shared_memory_fits(self) -> Self:
        if self.shared_memory_gib >= self.memory_gib:
            raise ValueError(
                f"shared_memory_gib={self.shared_memory_gib} counts as memory, of which there are "
                f"{self.memory_gib} GiB; make it smaller"
            )
        return self

    def with_gpus(self, gpus: int) -> "NodeShape":
        """The same machine with some of its GPUs, and as large a share of everything else."""
        if not self.gpus or gpus == self.gpus:
            return self.model_copy(update={"gpus": gpus})
        # No GPU at all still needs something to run on: what one of them would get.
        share = min(max(gpus, 1) / self.gpus, 1)
        memory = max(int(self.memory_gib * share), 2)
        return self.model_copy(
            update={
                "gpus": gpus,
                "cpu": max(int(self.cpu * share), 1),
                "memory_gib": memory,
                "shared_memory_gib": min(max(int(self.shared_memory_gib * share), 1), memory - 1),
                "rdma": {name: max(int(count * share), 1) for name, count in self.rdma.items()} if gpus else {},
            }
        )


class Topology(Spec):
    """How close together Kueue places the pods."""

    level: str
    """Node label of the level, e.g. `cloud.provider.com/topology-rack`."""
    strictness: Literal["required", "preferred"] = "preferred"


class Scheduling(Spec):
    """Who goes first, and where."""

    queue: LabelName | None = None
    """Kueue LocalQueue; not queued when null."""
    queue_priority: ObjectName | None = None
    """Kueue WorkloadPriorityClass: priority in the queue without priority of pods."""
    priority_class: ObjectName | None = None
    """Kubernetes PriorityClass of the pods."""
    topology: Topology | None = None

    @model_validator(mode="after")
    def _kueue_settings_need_a_queue(self) -> Self:
        if self.queue is None and (self.queue_priority or self.topology):
            raise ValueError("queue_priority and topology are Kueue's: set scheduling.queue, or set them to null")
        return self


class ObjectStore(Spec):
    """How pods reach S3. With neither a secret here nor cloud identity on the ServiceAccount there is no access."""

    endpoint_url: str | None = None
    """Of an S3 other than AWS."""
    region: str | None = None
    secret: ObjectName | None = None
    """Existing Secret with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; cloud identity on the
    ServiceAccount is better."""

    @model_validator(mode="after")
    def _no_secret_in_the_url(self) -> Self:
        refuse_secrets("storage.endpoint_url", self.endpoint_url or "")
        return self


class Tracking(Spec):
    """How pods reach MLflow."""

    uri: str | None = None
    secret: ObjectName | None = None
    """Existing Secret with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."""

    @model_validator(mode="after")
    def _no_secret_in_the_url(self) -> Self:
        refuse_secrets("tracking.uri", self.uri or "")
        return self


class SecretKey(Spec):
    """One value of an existing Secret."""

    secret: ObjectName
    key: str = Field(min_length=1)


class Images(Spec):
    """What the pods run."""

    train: str = Field("lapa-train:0.1.0", min_length=1)
    """By digest (`registry/lapa-train@sha256:…`) a restart runs what the first start ran."""
    serve: str = Field("lapa-serve:0.1.0", min_length=1)
    """What policy servers run; by digest for the same reason."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: tuple[ObjectName, ...] = ()


class Restarts(Spec):
    """How often and how patiently."""

    retries: int = Field(3, ge=0)
    """Restarts of each node's container before the job counts as failed."""
    in_place: int = Field(3, ge=0)
    """Restarts of the processes inside the running containers, which cost no pod; PyTorchJob only."""
    step_seconds: int = Field(60, ge=0)
    """Longest time until a rank looks whether it should stop: an optimizer step, or a validation."""
    save_seconds: int = Field(900, ge=0)
    """Longest time a checkpoint takes to be written and uploaded."""
    rendezvous_seconds: int = Field(900, gt=0)
    """How long nodes wait for each other; images arrive at different times."""
    keep_seconds: int = Field(7 * 24 * 3600, ge=0)
    """How long a finished job stays to be looked at."""
    deadline_seconds: int | None = Field(None, gt=0)
    """Stops the job for good; never when null."""

    @property
    def shutdown_seconds(self) -> int:
        """What ranks get between SIGTERM and SIGKILL: a step and a save."""
        return self.step_seconds + self.save_seconds

    @property
    def grace_seconds(self) -> int:
        """What the pod gets: the ranks' time, and a minute for the launcher to collect them and flush the tracking."""
        return self.shutdown_seconds + 60


class Network(Spec):
    """What NCCL is told. It finds the fastest transport by itself where a node has one network."""

    socket_interface: str | None = None
    """NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME, for pods with several interfaces, e.g. `eth0`."""
    ib_devices: str | None = None
    """NCCL_IB_HCA, e.g. `mlx5`."""
    debug: Literal["VERSION", "WARN", "INFO", "TRACE"] = "WARN"


class Security(Spec):
    """Who the containers run as; everything else of the restricted Pod Security level is fixed."""

    user: int | None = Field(10001, gt=0)
    """Null where the platform chooses (OpenShift)."""
    group: int | None = Field(10001, gt=0)
