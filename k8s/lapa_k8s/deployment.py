"""One pinned version of a policy and everything that decides how it is served."""

import re
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from lapa_k8s.base import Spec
from lapa_k8s.names import content_hash
from lapa_k8s.parts import Images, LabelName, ObjectStore, SecretKey, Security
from lapa_k8s.secrets import refuse_secret_variables, refuse_secrets
from lapa_k8s.serving import Serving

MAX_DEPLOYMENT_NAME = 40
"""A release's name, `<deployment>-v<version>-<8 letters>`, is a label's value of at most 63 characters."""
DeploymentName = Annotated[
    str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=MAX_DEPLOYMENT_NAME)
]
"""Of a Service: a DNS-1035 label."""


class Pinned(Spec):
    """A registered version, by its number and by what its files are."""

    model: str = Field(min_length=1)
    version: int = Field(gt=0)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the bundle; a server takes no other."""
    url: str = Field(min_length=1)
    """Of the bundle, as the servers reach it."""

    @property
    def words(self) -> str:
        return f"{self.model}/{self.version} ({self.digest[:12]})"


class DeploymentSpec(Spec):
    """What is served, and how. Equal specs are one release."""

    name: DeploymentName
    """Of the deployment: its Service has this name for as long as there is one."""
    namespace: LabelName
    pinned: Pinned
    images: Images = Images()
    serving: Serving = Serving()
    storage: ObjectStore = ObjectStore()
    security: Security = Security()
    environment: dict[str, str] = Field({})
    secrets: dict[str, SecretKey] = Field({})
    """Variables from existing Secrets."""
    annotations: dict[str, str] = Field({})
    """More annotations of the pods."""
    known_as: str = ""
    """Name of a release that was made before: one that is started again by a newer program keeps its name."""

    @model_validator(mode="after")
    def _somebody_may_ask(self) -> Self:
        if self.serving.token is None and not self.serving.is_open:
            raise ValueError(
                "robots must show a token, and none is named: set serving.token={secret: …, key: …} in the cluster "
                "profile (kubectl create secret generic policy-token --from-literal=token=$(openssl rand -hex 32)), "
                "give --token-secret NAME, or say --insecure"
            )
        return self

    @model_validator(mode="after")
    def _pods_reach_the_bundle(self) -> Self:
        if "://" not in self.pinned.url or self.pinned.url.startswith("file:"):
            raise ValueError(
                f"the bundle {self.pinned.url} lies on one machine, where pods do not reach it. Export it to an "
                "object store (`lapactl export … s3://…`), or use --target local"
            )
        return self

    @model_validator(mode="after")
    def _holds_no_secrets(self) -> Self:
        refuse_secret_variables(self.environment)
        refuse_secrets("the bundle's URL", self.pinned.url)
        return self

    @property
    def release(self) -> str:
        """Name of this version with these settings; the last part is a digest of all of them, the bundle's included."""
        content = content_hash(self.model_dump(mode="json", exclude={"known_as"}))
        return self.known_as or release_name(self.name, self.pinned.version, content)


def release_name(deployment: str, version: int, content: str) -> str:
    return f"{deployment}-v{version}-{content[:8]}"


def deployment_name(model: str) -> str:
    """What a model's deployment is called where nobody says: the model's name, as far as a Service may have it."""
    name = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    if not name[:1].isalpha():
        name = f"policy-{name}"
    return name[:MAX_DEPLOYMENT_NAME].strip("-")
