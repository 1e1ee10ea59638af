"""How policy servers run on a cluster: what a platform team says once, in the profile's `serving`."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lapa_k8s.base import Spec
from lapa_k8s.parts import NodeShape, ObjectName, Scratch, SecretKey
from lapa_k8s.secrets import refuse_secrets, texts_of

OWN_SETTINGS = ("bundle", "host", "port", "token_file", "is_open", "name", "version", "expected_digest")
"""Settings of the server that a deployment decides itself."""


class Serving(Spec):
    """One deployment's servers. The token is named, never held."""

    replicas: int = Field(1, gt=0)
    """Servers of one version; robots are spread over them by connection."""
    node: NodeShape = NodeShape(gpus=1, cpu=8, memory_gib=32, shared_memory_gib=2, scratch=Scratch(size_gib=50))
    """What one server gets. While versions are switched, twice as much is needed."""
    port: int = Field(8000, ge=1024, le=65535)
    token: SecretKey | None = None
    """Existing Secret with the tokens that robots show, one a line."""
    is_open: bool = False
    """Serve without any token; whoever reaches the Service is answered."""
    has_open_metrics: bool = True
    """`/metrics` asks for no token: it holds counts, and Prometheus has none of our tokens."""
    settings: dict[str, Any] = Field({})
    """More settings of the server, as `lapactl serve --set` takes them, e.g. `bounds: refuse`."""
    service_account: ObjectName | None = None
    """The place of cloud identity that may read bundles, and nothing else. The namespace's default when null."""
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    service_annotations: dict[str, str] = Field({})
    """Of the Service, e.g. for a cloud's load balancer."""
    startup_seconds: int = Field(900, gt=0)
    """Longest time until a new version is ready: image, weights, warm-up, replay."""
    drain_seconds: int = Field(10, ge=0)
    """How long a server that was told to stop still takes requests, so that routers look elsewhere."""
    grace_seconds: int = Field(30, gt=0)
    """How long what is under way may take after that."""
    keep_minutes: int = Field(30, ge=0)
    """How long the replaced version stays warm, so that a rollback takes seconds."""

    @model_validator(mode="after")
    def _settings_are_not_ours(self) -> Self:
        taken = [key for key in self.settings if key in OWN_SETTINGS]
        if taken:
            raise ValueError(f"serving.settings.{taken[0]} is decided by the deployment; leave it out")
        for text in texts_of(self.settings):
            refuse_secrets("serving.settings", text)
        return self

    @property
    def stop_seconds(self) -> int:
        """What a pod gets between SIGTERM and SIGKILL: draining, what is under way, and the process's own end."""
        return self.drain_seconds + self.grace_seconds + 15
