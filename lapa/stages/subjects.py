"""What someone means who names a run, a stage's folder or a model's folder: its model, its datasets, its policy.

Needs no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lapa import files
from lapa.config.load import arms, load_run
from lapa.config.presets import PRESETS
from lapa.config.run import RunConfig
from lapa.config.stages import CodesTarget
from lapa.data.dataset import Dataset
from lapa.errors import ConfigError, LapaError
from lapa.stages.plan import NotMadeYet, dataset_url, datasets_of, finished, is_floor, is_whole, stage_folder
from lapa.stages.results import Artifact, StageResult, read_result

MODEL_FILE = "config.json"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A latent-action model and what belongs to it. Datasets by role."""

    name: str
    work_url: str
    """Where results about it go."""
    model: Artifact
    window_seconds: float | None
    """None where nothing near the model says it."""
    datasets: dict[str, Artifact] = field(default_factory=dict)
    policy: Artifact | None = None
    """The pretrained VLA that predicts the model's codes."""
    floor: Artifact | None = None
    """The model of the run's baseline whose codes are withheld."""


def find_subject(source: str, overrides: Sequence[str] = ()) -> Subject:
    """A preset, a run's YAML file, the folder of a stage, or the folder of a model.

    Raises ConfigError where `source` is none of them, NotMadeYet where the run has no latent-action model yet.
    """
    if source in PRESETS or source.endswith((".yaml", ".yml")):
        return of_run(load_run(source, overrides))
    if (result := read_result(source)) is not None:
        return _of_stage(source, result)
    if files.exists(files.join(source, MODEL_FILE)):
        parent = source.rstrip("/").rpartition("/")[0] or "."
        result = read_result(parent)
        return _of_stage(parent, result) if result is not None and result.stage == "laq" else _of_model(source, parent)
    raise ConfigError(
        f"'{source}' is neither a preset, nor a run's YAML file, nor a folder with a finished stage or a model. "
        "Name a run, or a folder such as work/laq-0123456789."
    )


def of_run(run: RunConfig) -> Subject:
    """Raises NotMadeYet where the run has no latent-action model yet, ConfigError where it makes none."""
    if run.laq.labeller != "latent-action":
        raise ConfigError(
            f"run '{run.name}' labels with laq.labeller={run.laq.labeller}, which has no codes to look at; "
            "choose a run with laq.labeller=latent-action"
        )
    laq = finished(run, "laq")
    if laq is None:
        raise NotMadeYet(f"run '{run.name}' has no latent-action model yet; make it first: lapactl run {run.name} laq")
    return Subject(
        name=run.name,
        work_url=run.work_url,
        model=laq.outputs["model"],
        window_seconds=run.laq.window_seconds,
        datasets={
            role: _dataset(dataset_url(run, config))
            for role, config in datasets_of(run).items()
            if is_whole(run, config)
        },
        policy=_policy(run),
        floor=_floor(run),
    )


def _floor(run: RunConfig) -> Artifact | None:
    """Of another window it would have another floor."""
    rivals = [arm for arm in arms(run).values() if is_floor(arm) and arm.laq.window_seconds == run.laq.window_seconds]
    results = (finished(arm, "laq") for arm in rivals)
    return next((result.outputs["model"] for result in results if result is not None), None)


def _policy(run: RunConfig) -> Artifact | None:
    if run.pretrain is None or not isinstance(run.pretrain.target, CodesTarget):
        return None
    try:
        result = finished(run, "pretrain")
    except LapaError:
        return None
    return result.outputs["model"] if result is not None else None


def _of_stage(folder: str, result: StageResult) -> Subject:
    """URLs in a result may be relative to the folder that its run was started in; models are found beside it then."""
    work = folder.rstrip("/").rpartition("/")[0] or "."
    laq = result.outputs["model"] if result.stage == "laq" else result.inputs.get("laq")
    if laq is None:
        raise ConfigError(
            f"{folder} holds the results of stage '{result.stage}', which says nothing of the latent-action model; "
            "name the folder of the stage laq, label or pretrain, or the run"
        )
    return Subject(
        name=result.name,
        work_url=work,
        model=_near(work, laq),
        window_seconds=_window(work, laq),
        datasets={role: _near(work, result.inputs[role]) for role in ("videos", "robot") if role in result.inputs},
        policy=_near(work, result.outputs["model"]) if result.stage == "pretrain" else None,
    )


def _of_model(source: str, parent: str) -> Subject:
    digest = str(files.read_json(files.join(source, MODEL_FILE)).get("digest", ""))
    return Subject(
        name=files.name_of(source), work_url=parent, model=Artifact(url=source, digest=digest), window_seconds=None
    )


def _near(work: str, artifact: Artifact) -> Artifact:
    """Where it is: as written, or under the work folder that was moved or is seen from elsewhere."""
    parts = artifact.url.rstrip("/").split("/")
    places = [artifact.url, *(files.join(work, *parts[-count:]) for count in (2, 1))]
    return next((artifact.model_copy(update={"url": url}) for url in places if _is_there(url)), artifact)


def _is_there(url: str) -> bool:
    return any(files.exists(files.join(url, name)) for name in (MODEL_FILE, "dataset.json"))


def _window(work: str, laq: Artifact) -> float | None:
    """From labels that the model made, or from a run of the same work folder that made the model."""
    for name in files.list_names(work):
        stamp = files.join(work, name, "labels", "labels.json")
        if name.startswith("label-") and files.exists(stamp):
            told = files.read_json(stamp).get("stamp", {})
            if told.get("labeller_digest") == laq.digest:
                return float(told["window_seconds"])
    folder = files.name_of(laq.url.rstrip("/").removesuffix("/model"))
    return next((run.laq.window_seconds for run in _runs(work) if _makes(run, folder)), None)


def _runs(work: str) -> Iterator[RunConfig]:
    local = files.local_path(files.join(work, "runs"))
    for path in sorted(local.glob("*.yaml")) if local is not None else ():
        try:
            yield from arms(load_run(str(path))).values()
        except ConfigError:  # of another version
            continue


def _makes(run: RunConfig, folder: str) -> bool:
    try:
        return files.name_of(stage_folder(run, "laq")) == folder
    except LapaError:  # its datasets are elsewhere
        return False


def _dataset(url: str) -> Artifact:
    return Artifact(url=url, digest=Dataset.open(url).revision)
