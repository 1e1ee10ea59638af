"""One job: everything that decides its manifests, and nothing else."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lapa_k8s.base import Spec
from lapa_k8s.names import content_hash, job_name
from lapa_k8s.parts import (
    Images,
    LabelName,
    Network,
    NodeShape,
    ObjectName,
    ObjectStore,
    Operator,
    Restarts,
    Scheduling,
    SecretKey,
    Security,
    Tracking,
)
from lapa_k8s.secrets import refuse_secret_variables, refuse_secrets

Stage = Literal["ingest", "laq", "label", "pretrain", "finetune", "evaluate"]
ONE_PROCESS_STAGES: tuple[Stage, ...] = ("ingest", "evaluate")
"""Stages that do not share their work over ranks."""
PEER_STAGES: tuple[Stage, ...] = ("ingest",)
"""Stages whose pods share their work through the dataset's folder and need not know each other: a plain Job of several
pods, each with its index."""
CPU_STAGES: tuple[Stage, ...] = ("ingest",)
TRAINING_STAGES: tuple[Stage, ...] = ("laq", "pretrain", "finetune")
"""Stages whose pods Prometheus reads."""


NOT_CONTENT: Any = {"tracking_run_id": True, "attempt": True, "images": {"serve"}}
"""What a job does not do differently for."""


class RuntimeRef(Spec):
    """The Trainer v2 runtime that a TrainJob fills in. The chart installs one whose grace period, restarts and Pod
    Security suit the stages; a TrainJob itself cannot say these."""

    kind: Literal["TrainingRuntime", "ClusterTrainingRuntime"] = "TrainingRuntime"
    name: ObjectName = "lapa-torch"
    job: LabelName = "node"
    """The runtime's replicated job that trains."""
    container: LabelName = "node"
    """Its container."""


class JobSpec(Spec):
    """One submission of one stage. Its name says its content, so that the same submission is the same job."""

    stage: Stage
    run: str = Field(min_length=1)
    """The run's name."""
    config: str
    """The resolved run, as YAML: what the pods mount."""
    namespace: LabelName
    operator: Operator
    nodes: int = Field(gt=0)
    processes_per_node: int = Field(gt=0)
    """Ranks per pod: one per GPU, or as many as asked for without GPUs."""
    node: NodeShape
    images: Images = Images()
    scheduling: Scheduling = Scheduling()
    storage: ObjectStore = ObjectStore()
    tracking: Tracking = Tracking()
    restarts: Restarts = Restarts()
    network: Network = Network()
    security: Security = Security()
    runtime: RuntimeRef = RuntimeRef()
    service_account: ObjectName | None = None
    environment: dict[str, str] = Field({})
    secrets: dict[str, SecretKey] = Field({})
    """Variables from existing Secrets."""
    annotations: dict[str, str] = Field({})
    """More annotations of the pods."""
    tracking_run_id: str | None = None
    """MLflow run that the submitter opened; no part of the content."""
    attempt: str = Field("", pattern=r"^[a-z0-9]{0,6}$")
    """Tells a deliberate second submission of the same content apart."""

    @model_validator(mode="after")
    def _fits_the_stage(self) -> Self:
        is_alone = (self.nodes == 1 or self.stage in PEER_STAGES) and self.processes_per_node == 1
        if self.stage in ONE_PROCESS_STAGES and not is_alone:
            raise ValueError(
                f"stage '{self.stage}' runs in one process, {self.nodes} nodes with {self.processes_per_node} "
                "processes each are asked for. Use --nodes 1 and --gpus-per-node 1; ingest, laq, label, pretrain and "
                "finetune share their work"
            )
        if self.stage in ONE_PROCESS_STAGES and self.operator != "job":
            raise ValueError(f"stage '{self.stage}' needs no operator: use --operator job")
        if self.operator == "job" and self.nodes > 1 and self.stage not in PEER_STAGES:
            raise ValueError(
                f"a plain Job has one node, {self.nodes} are asked for. Use --operator pytorchjob or trainjob, "
                "or --nodes 1"
            )
        return self

    @model_validator(mode="after")
    def _trainjob_can_say_it(self) -> Self:
        if self.operator == "trainjob" and self.scheduling.priority_class:
            raise ValueError(
                f"a TrainJob cannot set the pods' priority class ('{self.scheduling.priority_class}'): set it in the "
                f"{self.runtime.kind} '{self.runtime.name}', use scheduling.queue_priority, or --operator pytorchjob"
            )
        return self

    @model_validator(mode="after")
    def _holds_no_secrets(self) -> Self:
        refuse_secret_variables(self.environment)
        refuse_secrets("the run", self.config)
        return self

    @property
    def content(self) -> str:
        """Hash of what the job does; equal submissions have equal ones."""
        return content_hash(self.model_dump(mode="json", exclude=NOT_CONTENT))

    @property
    def name(self) -> str:
        """Of the job and of its ConfigMap."""
        return job_name(self.run, self.stage, self.content, self.attempt)
