"""Which gates a policy must pass to get an alias, as one YAML file.

The shipped `gates.yaml` is what `lapactl promote` uses when none is named.
"""

from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from lapa.config.base import Config
from lapa.config.load import explain
from lapa.errors import ConfigError

DEFAULT_GATES = "gates.yaml"


class SuccessRateGate(Config):
    """Closed-loop success is at least so high, and not by luck."""

    kind: Literal["success-rate"] = "success-rate"
    at_least: float = Field(0.5, ge=0, le=1)
    """The lower end of the rate's interval must reach it."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Of the two-sided Wilson interval."""
    min_episodes: int = Field(50, gt=0)
    """Fewer prove nothing, whatever their rate."""
    benchmark: str | None = None
    """Name of the benchmark (`lapactl models show` lists them); the newest evaluation when null."""


class NotBelowProductionGate(Config):
    """Not worse than what is in production, episode by episode: both begin in the same states."""

    kind: Literal["not-below-production"] = "not-below-production"
    margin: float = Field(0.1, ge=0, le=1)
    """How much lower the success rate may be at worst: the lower end of the paired difference must reach -margin."""
    confidence: float = Field(0.9, gt=0, lt=1)
    """Of the two-sided interval of the difference: 0.9 leaves 5 % below its lower end."""
    benchmark: str | None = None
    """As in `success-rate`."""


class CodebookGate(Config):
    """The latent-action model that the policy was pretrained with uses its codebook."""

    kind: Literal["codebook"] = "codebook"
    min_perplexity: float = Field(1.5, ge=1)
    min_joint_perplexity: float = Field(2.0, ge=1)
    max_dead_share: float = Field(0.5, ge=0, le=1)
    """Share of codebook entries that no frame pair of the validation episodes gets."""


class ProbeGate(Config):
    """Codes mean motion: what a linear probe from codes explains of the robot's true motion (R2)."""

    kind: Literal["probe"] = "probe"
    min_r2: float = 0.2


class MetricGate(Config):
    """Any number that training or evaluation registered, within limits."""

    kind: Literal["metric"] = "metric"
    name: str
    """As `lapactl models show` prints it, e.g. held_out/ratio."""
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"the metric gate on {self.name} has no limit: set at_least or at_most")
        return self


class ProvenanceGate(Config):
    """Everything that the policy was made from is known, back to the datasets."""

    kind: Literal["provenance"] = "provenance"


class FilesGate(Config):
    """Every file of the bundle is what its manifest says, and none of them can run code. Not to be overruled."""

    kind: Literal["files"] = "files"


class LoadsGate(Config):
    """A fresh process loads the bundle and acts with it. Not to be overruled."""

    kind: Literal["loads"] = "loads"
    python: str | None = None
    """Interpreter of the serving environment; the one that runs `lapactl` when null."""
    timeout_seconds: float = Field(900, gt=0)


class LatencyGate(Config):
    """An action chunk comes in time: the slowest of a hundred calls (p99), one observation each, on this machine."""

    kind: Literal["latency"] = "latency"
    max_milliseconds: float = Field(500, gt=0)
    calls: int = Field(50, ge=10)
    python: str | None = None
    """As in `loads`."""


class LicenceGate(Config):
    """Every dataset behind the policy has a licence that allows its use."""

    kind: Literal["licence"] = "licence"
    allowed: tuple[str, ...] = ("CC0-1.0", "CC-BY-4.0", "MIT", "Apache-2.0", "BSD-3-Clause")
    """SPDX identifiers; anything else, `unknown` too, is refused."""


class ApprovalGate(Config):
    """People other than the one who promotes have said yes (`--approve NAME --reason …`)."""

    kind: Literal["approval"] = "approval"
    at_least: int = Field(1, ge=1)


GateConfig = Annotated[
    SuccessRateGate
    | NotBelowProductionGate
    | CodebookGate
    | ProbeGate
    | MetricGate
    | ProvenanceGate
    | FilesGate
    | LoadsGate
    | LatencyGate
    | LicenceGate
    | ApprovalGate,
    Field(discriminator="kind"),
]


class PromotionConfig(Config):
    """What has to hold before an alias moves."""

    gates: tuple[GateConfig, ...] = Field(min_length=1)
    """Judged in this order; all of them are, so that one report shows everything that is missing."""

    @model_validator(mode="after")
    def _checks_the_files(self) -> Self:
        if not any(isinstance(gate, FilesGate) for gate in self.gates):
            raise ValueError("`- kind: files` is missing from gates: a bundle that nobody verified is never promoted")
        return self


def load_gates(path: str | None = None) -> PromotionConfig:
    """The gates of a YAML file, the shipped ones without. ConfigError names every problem and the nearest valid key."""
    what, text = _read(path)
    try:
        settings: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} is not valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{what} must hold a mapping with `gates:`; `lapactl promote --show-gates` prints an example")
    try:
        return PromotionConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(explain(error, PromotionConfig, what=what)) from None


def dump_gates(config: PromotionConfig) -> str:
    """As YAML: loading it gives the same gates."""
    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def gate_names(gates: Sequence[GateConfig]) -> list[str]:
    """What each gate is called in reports and tags: its kind, with the metric's name; a repeated one is numbered."""
    names: list[str] = []
    for gate in gates:
        name = f"metric:{gate.name}" if isinstance(gate, MetricGate) else gate.kind
        same = sum(other.partition("#")[0] == name for other in names)
        names.append(f"{name}#{same + 1}" if same else name)
    return names


def _read(path: str | None) -> tuple[str, str]:
    if path is None:
        return "the shipped gates file", package_files("lapa.promotion").joinpath(DEFAULT_GATES).read_text("utf-8")
    try:
        return path, Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the gates file {path}: {error.strerror}") from error
