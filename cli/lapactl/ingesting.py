"""From the words of `lapactl data ingest` to the settings of an ingest."""

from collections.abc import Sequence
from typing import Any

from lapa import files
from lapa.config.data import IngestConfig, RldsSource
from lapa.config.load import load_run, merge, nested, parse_override, resolve
from lapa.config.presets import PRESETS
from lapa.data.dataset import INFO_FILE
from lapa.data.ingest import keeps_shards
from lapa.data.ingest_report import IngestReport
from lapa.data.readers.listing import first_names
from lapa.data.readers.openx import openx_table, unproved_name
from lapa.errors import ConfigError, DatasetNotFound, SourceError
from lapa.stages.plan import dataset_url, datasets_of

RATELESS = {"rlds": "RLDS files", "lapa-json": "LAPA's finetuning files"}
"""Kinds whose source has a setting for what the files leave out, in the words of a message."""


def ingest_settings(
    source: str, *, kind: str, fps: float | None, workers: int | None, overrides: Sequence[str]
) -> IngestConfig:
    """Raises ConfigError for a setting that does not fit, SourceError where there is nothing at the URL."""
    kind = detect_kind(source) if kind == "auto" else kind
    settings: dict[str, Any] = {"kind": "ingest", "source": {"kind": kind, "url": source}, "workers": workers}
    if fps is not None:
        settings = merge(settings, {"source": {"fps": fps}} if kind in RATELESS else {"fps": fps})
    for override in overrides:
        settings = merge(settings, nested(*parse_override(override)))
    if kind in RATELESS and not {"fps", "openx"} & set(settings["source"]):
        settings = merge(settings, {"source": _known_rate(source, kind)})
    # As part of a run, so that a wrong key is explained the way a run's are.
    run = resolve({"name": "ingest", "videos": settings, "pretrain": None, "finetune": None, "evaluate": None})
    assert isinstance(run.videos, IngestConfig)
    return run.videos


def refuse_to_overwrite(config: IngestConfig, output_url: str) -> None:
    """ConfigError where a finished dataset has other shards than the ingest would make: they would be lost."""
    if IngestReport.of_whole(output_url) is not None and not keeps_shards(config, output_url):
        raise ConfigError(
            f"{output_url} holds a finished dataset of another source, an earlier state of this one, other settings or "
            "an older format. Name another folder, or say --replace to make it anew; until that ends it is incomplete."
        )


def _known_rate(source: str, kind: str) -> dict[str, str]:
    """TFDS names a folder by its dataset, and one below by its version. Raises ConfigError where that tells nothing."""
    parts = source.rstrip("/").split("/")
    if kind == "rlds" and (known := [name for name in parts[-2:] if name in openx_table()]):
        return {"openx": known[-1]}
    say = " If it is an Open-X dataset under another name: --set source.openx=NAME" if kind == "rlds" else ""
    raise ConfigError(f"{RATELESS[kind]} do not say their frame rate; give it with --fps (Bridge: --fps 5).{say}")


def remark_on(config: IngestConfig) -> str | None:
    """What to know of a source before its dataset is trained on."""
    name = unproved_name(config.source) if isinstance(config.source, RldsSource) else None
    if name is None:
        return None
    return (
        f"the layout of {name} is compiled from other loaders, and was not tried on its own files: look at the "
        "frames, the actions' histograms and the licence with `lapactl data show --html` before you train on it"
    )


def stored_dataset(source: str, role: str) -> str:
    """The URL of a dataset, named by itself or by a run whose ingest has made it.

    Raises ConfigError where it is neither, or the run has no such dataset.
    """
    if files.exists(files.join(source, INFO_FILE)):
        return source
    if not source.endswith((".yaml", ".yml")) and source not in PRESETS:
        raise DatasetNotFound(
            f"{source} holds no {INFO_FILE}, and is no run. Give the URL of a dataset, a run's file, or one of "
            f"the presets {', '.join(sorted(PRESETS))}."
        )
    run = load_run(source)
    datasets = datasets_of(run)
    if role not in datasets:
        raise ConfigError(
            f"the run {run.name!r} has no dataset '{role}'; it has {sorted(datasets)}. Choose one with --role"
        )
    return dataset_url(run, datasets[role])


def detect_kind(source: str) -> str:
    """`lerobot` by its meta/info.json, `rlds` by its features.json, others by their files' endings, else `videos`."""
    if not files.exists(source):
        raise SourceError(f"there is nothing at {source}; check the path, and the credentials if it is a URL")
    if files.exists(files.join(source, "meta", "info.json")):
        return "lerobot"
    if files.exists(files.join(source, "features.json")):
        return "rlds"
    names = [files.name_of(source), *first_names(source)]
    for ending, kind in {".tar": "webdataset", ".hdf5": "hdf5", ".h5": "hdf5"}.items():
        if any(name.endswith(ending) for name in names):
            return kind
    return "lapa-json" if source.endswith((".json", ".jsonl")) else "videos"
