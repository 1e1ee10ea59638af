"""Not a stage of the pipeline: what a latent-action model's codes mean, as pictures, videos and numbers.

python -m lapa analyze - '{"source": "work/runs/tabletop.yaml", "settings": {"kinds": ["atlas"]}}'
"""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import ValidationError

from lapa import files
from lapa.analysis.records import Source
from lapa.analysis.results import AnalysisResult
from lapa.analysis.study import StudyInputs, StudySettings, study
from lapa.config.base import Config
from lapa.config.run import RunConfig
from lapa.data.dataset import Dataset
from lapa.errors import ConfigError
from lapa.models.storage import model_digest
from lapa.stages.results import Artifact
from lapa.stages.subjects import Subject, find_subject, of_run

logger = logging.getLogger(__name__)

Request = TypeVar("Request", bound=Config)


class AnalysisRequest(Config):
    """What `lapactl analyze` asks for."""

    source: str
    """A preset, a run's YAML file, the folder of a stage or of a model."""
    overrides: tuple[str, ...] = ()
    """Of the run."""
    datasets: tuple[str, ...] = ()
    """URLs, in place of the run's own."""
    policy: str | None = None
    """URL of a pretrained VLA, in place of the run's own."""
    floor: str | None = None
    """URL of a latent-action model trained with its codes withheld, in place of the run's baseline that is one."""
    window_seconds: float | None = None
    """In place of the run's own."""
    work_url: str | None = None
    """Where the folder of the analysis goes; beside the run's stages when null."""
    settings: StudySettings = StudySettings()


def main(run: RunConfig | None, arguments: Sequence[str] = ()) -> None:
    """Of a run, everything; or what the request in `arguments` asks for. Prints the analysis as JSON."""
    if run is not None:
        found = analyze_run(run, progress=_log)
    else:
        request = parse_request(AnalysisRequest, arguments)
        subject = find_subject(request.source, request.overrides)
        found = study(
            study_inputs(subject, request), request.settings, request.work_url or subject.work_url, progress=_log
        )
    sys.stdout.write(json.dumps(found.model_dump(mode="json")) + "\n")


def analyze_run(
    run: RunConfig,
    settings: StudySettings | None = None,
    *,
    progress: Callable[[str], None] = lambda step: None,
) -> AnalysisResult:
    """Everything about a run's latent-action model, made once per content and settings, read again afterwards.

    Raises NotMadeYet where the run has no latent-action model yet, ConfigError where it makes none, or one without a
    dataset to look at.
    """
    subject = of_run(run)
    inputs = study_inputs(subject, AnalysisRequest(source=run.name))
    return study(inputs, settings or StudySettings(), subject.work_url, progress=progress)


def study_inputs(subject: Subject, request: AnalysisRequest) -> StudyInputs:
    """Whose model is looked at on what. Raises ConfigError where the window or a dataset is unknown."""
    datasets = named_datasets(request.datasets) or {
        role: dataset_source(artifact.url) for role, artifact in subject.datasets.items()
    }
    if not datasets:
        raise ConfigError(f"no dataset of {request.source} is there; name one with --dataset")
    policy = model_at(request.policy) if request.policy else subject.policy
    floor = model_at(request.floor) if request.floor else subject.floor
    return StudyInputs(
        name=subject.name,
        window_seconds=window_of_subject(subject, request.window_seconds),
        model=model_source(subject.model),
        datasets=datasets,
        policy=model_source(policy) if policy else None,
        floor=model_source(floor) if floor else None,
    )


def model_at(url: str) -> Artifact:
    return Artifact(url=url, digest=model_digest(url))


def window_of_subject(subject: Subject, wanted: float | None) -> float:
    """Seconds."""
    seconds = wanted or subject.window_seconds
    if seconds is None:
        raise ConfigError(
            f"nothing beside {subject.model.url} says how far apart its two frames were in training; "
            "name it with --window, in seconds"
        )
    return seconds


def named_datasets(urls: Sequence[str]) -> dict[str, Source]:
    """By the name of their folder, numbered where names repeat."""
    named: dict[str, Source] = {}
    for url in urls:
        name = files.name_of(url)
        named[name if name not in named else f"{name}-{len(named) + 1}"] = dataset_source(url)
    return named


def dataset_source(url: str) -> Source:
    dataset = Dataset.open(url)
    return Source(url=url, digest=dataset.revision, name="+".join(dataset.info.embodiments))


def model_source(artifact: Artifact) -> Source:
    return Source(url=artifact.url, digest=artifact.digest, name=files.name_of(artifact.url))


def parse_request(kind: type[Request], arguments: Sequence[str]) -> Request:
    """The one JSON argument. Raises ConfigError."""
    if len(arguments) != 1:
        raise ConfigError("give one argument: the request as JSON; `lapactl probe` and `lapactl analyze` write it")
    try:
        return kind.model_validate_json(arguments[0])
    except ValidationError as error:
        raise ConfigError(f"the request is not valid: {error}") from error


def _log(step: str) -> None:
    logger.info("event=analysis step=%r", step)
