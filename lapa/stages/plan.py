"""Which stages a run consists of, what each is made from, and where its results go.

A stage's folder is named by a fingerprint of the settings that decide its result and of the content of
its inputs. So a stage whose inputs did not change is found complete and skipped, runs share what they
have in common, and a changed setting never overwrites an earlier result. Needs no torch.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from lapa import files
from lapa.config.base import result_settings
from lapa.config.data import (
    DatasetConfig,
    ExistingDataset,
    IngestConfig,
    MetaWorldSource,
    MixtureConfig,
    RldsSource,
    SimulatedSource,
    TabletopSource,
    parts_of,
)
from lapa.config.load import arms
from lapa.config.run import RunConfig
from lapa.config.stages import STAGES, StageName
from lapa.data.dataset import INFO_FILE, Dataset
from lapa.data.ingest_report import IngestReport
from lapa.data.mixture import is_mixed
from lapa.errors import ConfigError
from lapa.errors import NotMadeYet as NotMadeYet  # raised here
from lapa.stages.evaluated import find_judged
from lapa.stages.results import Artifact, StageResult, read_result

RESULT_VERSION = 1
"""Raise it when a stage computes something else from the same settings: old results are then made again."""


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One stage of the run or of one of its baselines."""

    stage: StageName
    name: str
    """Of the run or baseline it is made for."""
    run: RunConfig


def plan(run: RunConfig) -> list[PlannedStage]:
    """Every stage of a run and its baselines, in an order in which they can be made, shared ones once."""
    planned: dict[str, PlannedStage] = {}
    for name, arm in arms(run).items():
        for stage in stages_of(arm, is_baseline=name != run.name):
            planned.setdefault(static_key(arm, stage), PlannedStage(stage=stage, name=name, run=arm))
    return sorted(planned.values(), key=lambda item: STAGES.index(item.stage))


def stages_of(run: RunConfig, *, is_baseline: bool = False) -> list[StageName]:
    """The stages that make a run's results. A baseline without pretraining needs no labels; one whose codes are
    withheld is there for its latent-action model."""
    needs_labels = learns_labels(run) if run.pretrain else not is_baseline
    wanted: dict[StageName, bool] = {
        "ingest": True,
        "laq": needs_labels or is_floor(run),
        "label": needs_labels,
        "pretrain": run.pretrain is not None,
        "finetune": run.finetune is not None,
        "evaluate": run.evaluate is not None and (run.finetune is not None or judges_another(run)),
    }
    return [stage for stage in STAGES if wanted[stage]]


def datasets_of(run: RunConfig) -> dict[str, DatasetConfig]:
    """The datasets of a run by their role."""
    roles: dict[str, DatasetConfig | None] = {"videos": run.videos, "robot": run.robot}
    return {role: config for role, config in roles.items() if config is not None}


def learns_labels(run: RunConfig) -> bool:
    """Whether pretraining learns what stage `label` made, and not what the videos were recorded with."""
    return run.pretrain is not None and run.pretrain.target.kind != "recorded-actions"


def is_floor(run: RunConfig) -> bool:
    """Whether its latent-action model has to do without codes, to show what the others' codes are worth."""
    return run.laq.labeller == "latent-action" and run.laq.model.quantizer.kind == "withheld"


def judges_another(run: RunConfig) -> bool:
    """Whether stage `evaluate` looks at another policy than the one that `finetune` makes."""
    return run.evaluate is not None and run.evaluate.policy is not None


def labels_robot(run: RunConfig) -> bool:
    """Whether finetuning keeps the latent objective, and so needs codes of the robot episodes too."""
    return bool(run.finetune and run.pretrain and run.finetune.latent_loss_weight > 0)


def dataset_url(run: RunConfig, config: DatasetConfig) -> str:
    """Where a dataset of this run is, or will be."""
    match config:
        case ExistingDataset():
            return config.url
        case IngestConfig():
            key = files.digest(_canonical(result_settings(config)))
            return files.join(run.work_url, "datasets", f"{_source_name(config)}-{key[:10]}")
        case MixtureConfig():
            key = files.digest(_canonical(result_settings(config)))
            return files.join(run.work_url, "datasets", f"mixture-{key[:10]}")
        case _:
            assert_never(config)


def part_urls(run: RunConfig, config: DatasetConfig) -> dict[str, str]:
    """Where the datasets of a role are, or will be, by the names that a mixture gives them; '' for an only one."""
    return {name: dataset_url(run, part) for name, part in parts_of(config).items()}


def inputs_of(run: RunConfig, stage: StageName) -> dict[str, Artifact]:
    """What a stage is made from, with the content of each. NotMadeYet names the stage to run first."""
    match stage:
        case "ingest":
            return {}
        case "laq":
            if run.laq.labeller == "inverse-dynamics":
                return {"robot": _dataset(run, "robot")}
            roles = ("videos", "robot") if run.laq.gate and run.robot else ("videos",)
            return {role: _dataset(run, role) for role in roles}
        case "label":
            roles = ("videos", "robot") if labels_robot(run) else ("videos",)
            return {**{role: _dataset(run, role) for role in roles}, "laq": _output(run, "laq", "model")}
        case "pretrain" if not learns_labels(run):
            return {"videos": _dataset(run, "videos")}
        case "pretrain":
            # The labels alone would do to train; the model that made them is named for the lineage of the policy.
            labels = {"labels": _output(run, "label", "labels"), "laq": _output(run, "laq", "model")}
            return {"videos": _dataset(run, "videos"), **labels}
        case "finetune":
            inputs = {"robot": _dataset(run, "robot")}
            if run.pretrain:
                inputs["pretrain"] = _output(run, "pretrain", "model")
            if labels_robot(run):
                inputs |= {"labels": _output(run, "label", "robot-labels"), "laq": _output(run, "laq", "model")}
            return inputs
        case "evaluate" if judges_another(run):
            return find_judged(run).inputs
        case "evaluate":
            return {"robot": _dataset(run, "robot"), "policy": _output(run, "finetune", "policy")}
        case _:
            assert_never(stage)


def fingerprint(run: RunConfig, stage: StageName) -> str:
    """Names what a stage makes: its settings, the seed and the content of its inputs."""
    inputs = {name: artifact.digest for name, artifact in inputs_of(run, stage).items()}
    return files.digest(_canonical({**stage_settings(run, stage), "inputs": inputs}))


def stage_folder(run: RunConfig, stage: StageName) -> str:
    """Where a stage's checkpoints and results go."""
    return files.join(run.work_url, f"{stage}-{fingerprint(run, stage)[:10]}")


def finished(run: RunConfig, stage: StageName) -> StageResult | None:
    """The result of a complete stage, or None."""
    try:
        return read_result(stage_folder(run, stage))
    except NotMadeYet:
        return None


def unchanged(run: RunConfig, stage: StageName) -> StageResult | None:
    """The result of a stage that need not even be started. Ingest looks again at files that others may change."""
    if stage == "ingest":
        for config in datasets_of(run).values():
            is_made_here = all(
                isinstance(part, ExistingDataset) or isinstance(part.source, SimulatedSource)
                for part in parts_of(config).values()
            )
            if not is_made_here or not is_whole(run, config):
                return None
    return finished(run, stage)


def is_whole(run: RunConfig, config: DatasetConfig) -> bool:
    """Whether a dataset is there; one that the run ingests, with every shard of its size."""
    url = dataset_url(run, config)
    if isinstance(config, MixtureConfig):
        are_whole = all(is_whole(run, part) for part in parts_of(config).values())
        return are_whole and is_mixed(config, part_urls(run, config), url)
    if isinstance(config, ExistingDataset):
        return files.exists(files.join(url, INFO_FILE))
    return IngestReport.of_whole(url) is not None


def machine_folder(run: RunConfig) -> Path:
    """Logs and resolved runs stay on this machine, whatever store the results go to."""
    return files.local_path(run.work_url) or Path("work")


def run_file(run: RunConfig) -> Path:
    """Where `lapactl run` leaves the resolved run, with its baselines."""
    return machine_folder(run) / "runs" / f"{run.name}.yaml"


def _output(run: RunConfig, stage: StageName, name: str) -> Artifact:
    result = finished(run, stage)
    if result is None:
        raise NotMadeYet(f"stage '{stage}' has not finished for these settings; run it first: lapactl run {stage}")
    return result.outputs[name]


def _dataset(run: RunConfig, role: str) -> Artifact:
    config = datasets_of(run).get(role)
    if config is None:
        raise ConfigError(f"the run names no '{role}' dataset; set {role}.source.kind and {role}.source.url")
    url = dataset_url(run, config)
    if not isinstance(config, ExistingDataset) and not files.exists(files.join(url, "dataset.json")):
        raise NotMadeYet(f"the '{role}' dataset is not at {url} yet; make it first: lapactl run ingest")
    return Artifact(url=url, digest=Dataset.open(url).revision)


def static_key(run: RunConfig, stage: StageName) -> str:
    """Equal for stages that will share a folder, before anything is made.

    For planning what lies ahead. Whether two stages really are one, their folders say, once their inputs exist.
    """
    roles, earlier = _made_from(run, stage)
    datasets = {role: dataset_url(run, config) for role, config in datasets_of(run).items() if role in roles}
    if stage == "evaluate" and run.evaluate and run.evaluate.policy:
        datasets["policy"] = run.evaluate.policy
    return files.digest(_canonical([stage_settings(run, stage), datasets, [static_key(run, item) for item in earlier]]))


def _made_from(run: RunConfig, stage: StageName) -> tuple[tuple[str, ...], tuple[StageName, ...]]:
    """Datasets and earlier stages that `inputs_of` will find, named without looking."""
    both = ("videos", "robot")
    match stage:
        case "ingest":
            return (), ()  # its settings are the datasets
        case "laq" if run.laq.labeller == "inverse-dynamics":
            return ("robot",), ()
        case "laq":
            return both if run.laq.gate else ("videos",), ()
        case "label":
            return both if labels_robot(run) else ("videos",), ("laq",)
        case "pretrain":
            return ("videos",), ("label",) if learns_labels(run) else ()
        case "finetune":
            pretrained: tuple[StageName, ...] = ("pretrain",) if run.pretrain else ()
            return ("robot",), (*pretrained, "label") if labels_robot(run) else pretrained
        case "evaluate" if judges_another(run):
            return (), ()
        case "evaluate":
            return ("robot",), ("finetune",)
        case _:
            assert_never(stage)


def stage_settings(run: RunConfig, stage: StageName) -> dict[str, Any]:
    """What of the run decides this stage's result, beside its inputs; as plain data."""
    datasets = {role: result_settings(config) for role, config in datasets_of(run).items()}
    parts: dict[StageName, Any] = {
        "ingest": datasets,
        "laq": _labeller_settings(run),
        "label": {**result_settings(run.label), "window_seconds": run.laq.window_seconds},
        "pretrain": run.pretrain and result_settings(run.pretrain),
        "finetune": run.finetune and result_settings(run.finetune),
        "evaluate": run.evaluate and result_settings(run.evaluate),
    }
    return {"version": RESULT_VERSION, "stage": stage, "seed": run.seed, "settings": parts[stage]}


def _labeller_settings(run: RunConfig) -> dict[str, Any]:
    """Of the labeller that is chosen, without those of the other one."""
    settings = result_settings(run.laq)
    if run.laq.labeller == "inverse-dynamics":
        return {name: settings[name] for name in ("labeller", "inverse_dynamics", "window_seconds", "stream")}
    return {name: value for name, value in settings.items() if name != "inverse_dynamics"}


def _source_name(config: IngestConfig) -> str:
    source = config.source
    match source:
        case TabletopSource() | MetaWorldSource():
            return f"{source.kind}-{source.record}"
        case RldsSource():
            # TFDS keeps a dataset under its version: bridge_dataset/1.0.0 is called bridge_dataset.
            name, parent = files.name_of(source.url), files.name_of(source.url.rstrip("/").rpartition("/")[0])
            return parent if parent and re.fullmatch(r"\d+(\.\d+)*", name) else name
        case _:
            return files.name_of(source.url)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
