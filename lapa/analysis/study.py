"""All analyses of one latent-action model, into one folder named by what they were made from."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, assert_never, get_args

from lapa import files
from lapa.analysis.across import across
from lapa.analysis.atlas import atlas, reconstruction_picture
from lapa.analysis.confusion import confusions
from lapa.analysis.exhibit_results import AnalysisKind
from lapa.analysis.exhibits import Exhibit
from lapa.analysis.latents import Encoded, encode_dataset
from lapa.analysis.probe_report import probe_report
from lapa.analysis.records import Source
from lapa.analysis.results import AnalysisResult, read_analysis, write_analysis
from lapa.analysis.rollout import rollout, telling_rows
from lapa.analysis.scatter import scatter
from lapa.config.base import Config
from lapa.data.dataset import Dataset
from lapa.errors import DataError
from lapa.models.latent_action.model import LatentActionModel, load_latent_action_model
from lapa.models.vla.storage import load_vla

logger = logging.getLogger(__name__)

ANALYSIS_VERSION = 2
"""Raise it when an analysis computes or draws something else from the same settings."""
KINDS: tuple[AnalysisKind, ...] = get_args(AnalysisKind)


class StudySettings(Config):
    """What is to be found out."""

    kinds: tuple[AnalysisKind, ...] = KINDS
    probes: bool = True
    """Probe the codes on every dataset."""
    max_pairs: int = 4000
    """Frame pairs of each dataset."""
    dimensions: tuple[str, ...] = ()
    """The two of the scatter, by name; the first two that vary where none are named."""
    position: int | None = None
    """Of the codes in the scatter; whole latent actions where there is none."""
    episodes: int = 2
    """Of the rollout."""


@dataclass(frozen=True, kw_only=True)
class StudyInputs:
    """What is analysed. Datasets by role."""

    name: str
    window_seconds: float
    model: Source
    datasets: Mapping[str, Source]
    policy: Source | None = None
    """The pretrained VLA that predicts codes."""
    floor: Source | None = None
    """A latent-action model trained with its codes withheld."""

    def digest(self, settings: StudySettings) -> str:
        """Of everything that decides the result."""
        made_from = {
            "version": ANALYSIS_VERSION,
            "window_seconds": self.window_seconds,
            "model": self.model.digest,
            "policy": self.policy and self.policy.digest,
            "floor": self.floor and self.floor.digest,
            "datasets": {role: source.digest for role, source in self.datasets.items()},
            "settings": settings.model_dump(mode="json"),
        }
        return files.digest(json.dumps(made_from, sort_keys=True))


@dataclass(kw_only=True)
class _Findings:
    """What is found so far."""

    values: dict[str, Any] = field(default_factory=dict)
    exhibits: list[Exhibit] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def study(
    inputs: StudyInputs,
    settings: StudySettings,
    work_url: str,
    *,
    progress: Callable[[str], None] = lambda step: None,
) -> AnalysisResult:
    """The analyses, in `{work_url}/analysis-<digest10>`; read from there where they were made before."""
    digest = inputs.digest(settings)
    folder = files.join(work_url, f"analysis-{digest[:10]}")
    if (known := read_analysis(folder)) is not None and known.digest == digest:
        return known
    started, found = time.monotonic(), _Findings()
    model = load_latent_action_model(inputs.model.url)
    encoded = _encoded(model, inputs, settings, found, progress)
    if settings.probes:
        _probe(model, inputs, encoded, found, progress)
    for kind in settings.kinds:
        progress(kind)
        _analyse(kind, model, inputs, settings, encoded, found)
    media = tuple(file for exhibit in found.exhibits for file in exhibit.write(folder))
    result = AnalysisResult(
        digest=digest,
        folder=folder,
        name=inputs.name,
        model=inputs.model,
        policy=inputs.policy,
        datasets=dict(inputs.datasets),
        settings={"max_pairs": settings.max_pairs, "window_seconds": inputs.window_seconds},
        media=media,
        skipped=found.skipped,
        seconds=time.monotonic() - started,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **found.values,
    )
    write_analysis(result)
    return result


def _encoded(
    model: LatentActionModel,
    inputs: StudyInputs,
    settings: StudySettings,
    found: _Findings,
    progress: Callable[[str], None],
) -> dict[str, Encoded]:
    """By role; roles with the same content are looked at once, and one that is too small is left out."""
    encoded: dict[str, Encoded] = {}
    seen: dict[str, str] = {}
    for role, source in inputs.datasets.items():
        if source.digest in seen:
            found.skipped[role] = f"The same dataset as {seen[source.digest]}."
            continue
        seen[source.digest] = role
        progress(f"encode {role}")
        dataset = Dataset.open(source.url)
        try:
            encoded[role] = encode_dataset(
                model, dataset, window_seconds=inputs.window_seconds, max_pairs=settings.max_pairs, name=source.name
            )
        except DataError as error:
            found.skipped[role] = str(error)
            logger.warning("event=dataset-left-out role=%s why=%s", role, error)
    return encoded


def _probe(
    model: LatentActionModel,
    inputs: StudyInputs,
    encoded: Mapping[str, Encoded],
    found: _Findings,
    progress: Callable[[str], None],
) -> None:
    """Every dataset; from the first with actions, the probe is also taken to the next one with actions."""
    floor = load_latent_action_model(inputs.floor.url) if inputs.floor else None
    labelled = [role for role, side in encoded.items() if "actions" in side.pairs.motion]
    found.values["probes"] = {
        role: probe_report(
            model,
            inputs.model,
            side,
            floor=floor,
            other=encoded[labelled[1]] if len(labelled) > 1 and role == labelled[0] else None,
            progress=lambda step, role=role: progress(f"{step} {role}"),  # type: ignore[misc]
        )
        for role, side in encoded.items()
    }


def _analyse(
    kind: AnalysisKind,
    model: LatentActionModel,
    inputs: StudyInputs,
    settings: StudySettings,
    encoded: Mapping[str, Encoded],
    found: _Findings,
) -> None:
    if not model.config.codebook_size:
        found.skipped[kind] = "The model's latents are continuous or withheld: there are no codes to show."
        return
    match kind:
        case "atlas":
            found.exhibits += [atlas(model, side, role) for role, side in encoded.items()]
        case "reconstruction":
            found.exhibits += [reconstruction_picture(model, side, role) for role, side in encoded.items()]
        case "across":
            _across(encoded, found)
        case "scatter":
            _scatter(settings, encoded, found)
        case "instructions":
            _instructions(encoded, found)
        case "rollout":
            _rollouts(model, inputs, settings, encoded, found)
        case _:
            assert_never(kind)


def _across(encoded: Mapping[str, Encoded], found: _Findings) -> None:
    if len(encoded) < 2:
        found.skipped["across"] = "Only one dataset is known; name another with --dataset to lay codes side by side."
        return
    found.values["across"], exhibit = across(encoded)
    found.exhibits.append(exhibit)


def _scatter(settings: StudySettings, encoded: Mapping[str, Encoded], found: _Findings) -> None:
    labelled = {role: side for role, side in encoded.items() if "actions" in side.pairs.motion}
    if not labelled:
        found.skipped["scatter"] = "No dataset has actions on every episode that was looked at."
        return
    drawn = [
        scatter(side, role, dimensions=settings.dimensions, position=settings.position)
        for role, side in labelled.items()
    ]
    found.values["scatters"] = tuple(table for table, _ in drawn)
    found.exhibits += [exhibit for _, exhibit in drawn]


def _instructions(encoded: Mapping[str, Encoded], found: _Findings) -> None:
    drawn = [item for role, side in encoded.items() for item in confusions(side, role)]
    if not drawn:
        found.skipped["instructions"] = "No dataset has two different instructions."
        return
    found.values["confusions"] = tuple(table for table, _ in drawn)
    found.exhibits += [exhibit for _, exhibit in drawn]


def _rollouts(
    model: LatentActionModel,
    inputs: StudyInputs,
    settings: StudySettings,
    encoded: Mapping[str, Encoded],
    found: _Findings,
) -> None:
    """On the first dataset: the one that the policy was pretrained on."""
    if inputs.policy is None:
        found.skipped["rollout"] = "There is no pretrained policy that predicts codes: run the stage pretrain first."
        return
    if not encoded:
        found.skipped["rollout"] = "No dataset is large enough."
        return
    policy = load_vla(inputs.policy.url)
    if policy.latent_head is None:
        found.skipped["rollout"] = "The policy has no latent head: it was finetuned without one. Name a pretrained one."
        return
    role, side = next(iter(encoded.items()))
    drawn = [rollout(model, policy, side, role, row=row) for row in telling_rows(side)[: settings.episodes]]
    found.values["rollouts"] = tuple(table for table, _ in drawn)
    found.exhibits += [exhibit for _, exhibit in drawn]
