"""Not a stage of the pipeline: does a latent-action model's code mean motion on a dataset? Numbers only.

python -m lapa probe - '{"source": "work/laq-0123456789", "dataset": "work/datasets/mine"}'
"""

import json
import logging
import sys
from collections.abc import Sequence

from lapa.analysis.latents import encode_dataset
from lapa.analysis.probe_report import probe_report
from lapa.analysis.probe_results import ProbeReport
from lapa.config.base import Config
from lapa.config.run import RunConfig
from lapa.data.dataset import Dataset
from lapa.errors import ConfigError
from lapa.models.latent_action.model import load_latent_action_model
from lapa.stages.analyze import model_source, parse_request, window_of_subject
from lapa.stages.subjects import find_subject

logger = logging.getLogger(__name__)


class ProbeRequest(Config):
    """What `lapactl probe` asks for."""

    source: str
    """A preset, a run's YAML file, the folder of a stage or of a model."""
    dataset: str | None = None
    """URL; the run's own with actions when null."""
    transfer: str | None = None
    """URL of a dataset that the probe is taken to."""
    floor: str | None = None
    """URL of a latent-action model trained with its codes withheld, in place of the run's baseline that is one."""
    overrides: tuple[str, ...] = ()
    window_seconds: float | None = None
    max_pairs: int = 4000


def main(run: RunConfig | None, arguments: Sequence[str] = ()) -> None:
    """Print the report as JSON."""
    if run is not None:
        raise ConfigError("`python -m lapa probe` takes a request: python -m lapa probe - '{\"source\": …}'")
    report = probe(parse_request(ProbeRequest, arguments))
    sys.stdout.write(json.dumps(report.model_dump(mode="json")) + "\n")


def probe(request: ProbeRequest) -> ProbeReport:
    """Raises ConfigError where the request names nothing that can be probed."""
    subject = find_subject(request.source, request.overrides)
    window = window_of_subject(subject, request.window_seconds)
    urls = (
        [request.dataset]
        if request.dataset
        else [subject.datasets[r].url for r in ("robot", "videos") if r in subject.datasets]
    )
    if not urls:
        raise ConfigError(f"no dataset of {request.source} is there; name one: lapactl probe {request.source} DATASET")
    model = load_latent_action_model(subject.model.url)
    floor = request.floor or (subject.floor.url if subject.floor else None)
    encoded, *others = (
        encode_dataset(model, Dataset.open(url), window_seconds=window, max_pairs=request.max_pairs)
        for url in [urls[0], *([request.transfer] if request.transfer else [])]
    )
    return probe_report(
        model,
        model_source(subject.model),
        encoded,
        floor=load_latent_action_model(floor) if floor else None,
        other=others[0] if others else None,
        progress=lambda step: logger.info("event=probe step=%r", step),
    )
