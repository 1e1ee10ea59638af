"""A pipeline: stages that are submitted one after the other, each when the one before has succeeded.

What drives it is a Job of one small pod in the same namespace. It holds the manifests of all stages, rendered when the
pipeline was submitted, and does what a patient user would: send one, wait for its end, send the next. Nothing is
remembered anywhere: a stage's job is named by its content, so a driver that starts again finds the jobs that are there
and goes on with the first that has not succeeded. Kubernetes restarts it as it restarts any Job, whatever becomes of
the machine that submitted it.

Why not something else:

- Argo Workflows, Kubeflow Pipelines or Tekton would be one more operator to install, to grant cluster rights and to
  keep up to date, for a chain without branches; where there is one, `submit STAGE --wait` is a step of it.
- A CronJob, or jobs that each submit the next one, would give every training pod a token for the API; here training
  pods have none, and the driver runs no training.
- All jobs at once, each waiting for its inputs, would hold GPUs while they wait; created suspended, they would need
  somebody to wake them up, and Kueue wakes up what it admits.
- Init containers or one long Job would give every stage the same nodes.

All manifests are rendered and checked when the pipeline is submitted: a mistake in the last stage is told before the
first one starts, and the driver's image need not know how to render.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from lapa_k8s.base import Spec
from lapa_k8s.names import content_hash, job_name
from lapa_k8s.parts import Images, LabelName, NodeShape, ObjectName, Security
from lapa_k8s.spec import JobSpec, Stage

PIPELINE: Literal["pipeline"] = "pipeline"
"""What stands where a job's stage is named: in its name and labels."""


class PipelineSpec(Spec):
    """One submission of a chain of stages. Its name says its content, as a job's does."""

    run: str = Field(min_length=1)
    namespace: LabelName
    stages: tuple[JobSpec, ...] = Field(min_length=1)
    """In the order in which they are made."""
    made: tuple[Stage, ...] = ()
    """Stages of the chain that were made before; they are not submitted, and no part of the content."""
    images: Images = Images()
    """The driver's is the stages'."""
    node: NodeShape
    """Where the driver may run: its selector and tolerations."""
    service_account: ObjectName = "lapa-pipeline"
    security: Security = Security()
    keep_seconds: int = Field(7 * 24 * 3600, ge=0)
    attempt: str = Field("", pattern=r"^[a-z0-9]{0,6}$")

    @model_validator(mode="after")
    def _leaves_something_to_do(self) -> Self:
        names = [spec.stage for spec in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"a pipeline has each stage once, not {', '.join(names)}")
        if set(names) <= set(self.made):
            raise ValueError("every stage of the pipeline is made already; there is nothing to submit")
        return self

    @property
    def pending(self) -> tuple[JobSpec, ...]:
        """The stages that are submitted."""
        return tuple(spec for spec in self.stages if spec.stage not in self.made)

    @property
    def content(self) -> str:
        """Hash of what the pipeline does, however much of it was made before."""
        own = self.model_dump(mode="json", exclude={"stages", "made", "attempt"})
        return content_hash([own, *(spec.content for spec in self.stages)])

    @property
    def name(self) -> str:
        """Of the pipeline's Job and of its ConfigMap."""
        return job_name(self.run, PIPELINE, self.content, self.attempt)
