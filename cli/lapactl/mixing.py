"""From the words of `lapactl data mix` to a mixture as it will be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lapa import files
from lapa.config.data import MixtureConfig
from lapa.config.load import load_run
from lapa.config.presets import PRESETS
from lapa.config.run import RunConfig
from lapa.config.stages import FinetuneConfig, LaqConfig, PretrainConfig
from lapa.data.dataset import INFO_FILE, Dataset, joined
from lapa.data.mixture import mixture_info
from lapa.data.mixture_table import StageDraws
from lapa.errors import ConfigError, DataError, DatasetNotFound
from lapa.stages.agreement import check_agreement
from lapa.stages.plan import NotMadeYet, dataset_url, datasets_of, part_urls


@dataclass(frozen=True, kw_only=True)
class OpenMixture:
    """A mixture, or a single dataset, with what will be drawn from it."""

    dataset: Dataset
    members: Mapping[str, Dataset]
    stages: Mapping[str, StageDraws]
    problem: str | None = None
    """Why the run would refuse it."""

    @property
    def lacks_twins(self) -> bool:
        """Whether nobody has looked yet for clips that several of the datasets hold."""
        return len(self.members) > 1 and self.dataset.info.twins is None


def is_run(source: str) -> bool:
    """Whether it names a run, and not a dataset's URL."""
    return source in PRESETS or source.endswith((".yaml", ".yml"))


def open_mixture(
    source: str,
    role: str,
    overrides: Sequence[str],
    *,
    samples: int | None,
    window_seconds: float,
    validation_share: float,
) -> OpenMixture:
    """Of a run, or of a dataset's URL. ConfigError or DataError where there is none, NotMadeYet before ingest."""
    if not is_run(source):
        if not files.exists(files.join(source, INFO_FILE)):
            raise DatasetNotFound(f"{source} holds no {INFO_FILE}, and is no run. Give a run, or the URL of a mixture.")
        dataset = Dataset.open(source)
        draws = StageDraws(samples=samples or 0, window_seconds=window_seconds, validation_share=validation_share)
        return OpenMixture(dataset=dataset, members=_opened(dataset), stages={"training": draws})
    run = load_run(source, overrides)
    dataset = _of_run(run, role)
    stages = _stages(run, role)
    return OpenMixture(dataset=dataset, members=_opened(dataset), stages=stages, problem=_problem(run, role, dataset))


def _of_run(run: RunConfig, role: str) -> Dataset:
    """As stage `ingest` will leave it; the mixture itself need not be there yet, only its datasets."""
    config = datasets_of(run).get(role)
    if config is None:
        raise ConfigError(f"the run {run.name!r} has no dataset '{role}'; choose another with --role")
    if not isinstance(config, MixtureConfig):
        return _open(dataset_url(run, config), role)
    opened = {name: _open(url, f"{role}.datasets.{name}") for name, url in sorted(part_urls(run, config).items())}
    index, shard_urls = joined(list(opened.values()))
    url = dataset_url(run, config)
    info = mixture_info(config, opened, _known_twins(url))
    return Dataset(url=url, info=info, index=index, shard_urls=shard_urls)


def _known_twins(url: str) -> Mapping[str, str] | None:
    """What the mixture that was made says; None before, or where its datasets have changed since."""
    try:
        return Dataset.open(url).info.twins
    except DataError:
        return None


def _problem(run: RunConfig, role: str, dataset: Dataset) -> str | None:
    try:
        check_agreement(run, {role: dataset})
    except DataError as error:
        return str(error)
    return None


def _open(url: str, what: str) -> Dataset:
    try:
        return Dataset.open(url)
    except DatasetNotFound as error:
        raise NotMadeYet(f"{what} is not at {url} yet; make it first: lapactl run ingest") from error


def _opened(dataset: Dataset) -> dict[str, Dataset]:
    return {member.name: Dataset.open(member.url) for member in dataset.info.members}


def _stages(run: RunConfig, role: str) -> dict[str, StageDraws]:
    """Of the stages that read the role, in their order."""
    found: dict[str, StageDraws] = {}
    if role == "videos" and run.laq.labeller == "latent-action":
        found["laq"] = _draws(run.laq, run.laq.window_seconds)
    if role == "videos" and run.pretrain is not None:
        is_labelled = run.pretrain.target.kind != "recorded-actions"
        found["pretrain"] = _draws(run.pretrain, run.laq.window_seconds if is_labelled else None)
    if role == "robot" and run.finetune is not None:
        found["finetune"] = _draws(run.finetune, None)
    if not found:
        raise ConfigError(f"no stage of the run {run.name!r} is trained on '{role}'; choose another with --role")
    return found


def _draws(config: LaqConfig | PretrainConfig | FinetuneConfig, window_seconds: float | None) -> StageDraws:
    return StageDraws(
        samples=config.fit.steps * config.fit.batch_size,
        window_seconds=window_seconds,
        validation_share=config.stream.validation_share,
    )
