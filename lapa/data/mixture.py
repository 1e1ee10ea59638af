"""A mixture: several datasets that are read as one.

It is a dataset of its own with no shards of its own: `dataset.json` names the members with their shares, and opening it
joins their indices. So everything that reads a dataset reads a mixture, and labels of it are labels of each member's
shards, with that member's window.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from lapa import files
from lapa.config.conventions import Conventions, difference, known_actions
from lapa.config.data import MixtureConfig
from lapa.data.dataset import INFO_FILE, Dataset, DatasetInfo, Member
from lapa.errors import ConfigError, DataError


def mix(
    config: MixtureConfig, urls: Mapping[str, str], output_url: str, *, twins: Mapping[str, str] | None = None
) -> DatasetInfo:
    """Write the mixture of the datasets at `urls`, by the names that `config` gives them.

    `twins`: what `mixture_twins.py` finds; None where nobody looked. ConfigError where the datasets cannot be read as
    one. Nothing is copied.
    """
    opened = {name: Dataset.open(urls[name]) for name in sorted(config.datasets)}
    _refuse_mixtures(opened)
    _refuse_sizes(opened)
    info = mixture_info(config, opened, twins)
    files.write_json(files.join(output_url, INFO_FILE), info.model_dump(mode="json"))
    return info


def is_mixed(config: MixtureConfig, urls: Mapping[str, str], output_url: str) -> bool:
    """Whether the mixture is there, of the datasets as they are now, and somebody looked for what they share."""
    try:
        opened = {name: Dataset.open(urls[name]) for name in sorted(config.datasets)}
        info = Dataset.open(output_url).info
        return info.twins is not None and info == mixture_info(config, opened, info.twins)
    except DataError:
        return False


def mixture_info(config: MixtureConfig, opened: Mapping[str, Dataset], twins: Mapping[str, str] | None) -> DatasetInfo:
    """What `dataset.json` says. Members are in the order of their names."""
    infos = [dataset.info for dataset in opened.values()]
    shares = shares_of(config, {name: hours_of(dataset) for name, dataset in opened.items()})
    members = tuple(
        Member(
            name=name,
            url=dataset.url,
            revision=dataset.revision,
            share=shares[name],
            num_episodes=len(dataset),
            window_seconds=config.datasets[name].window_seconds,
            fps=config.fps if config.fps is not None and max(dataset.info.fps) > config.fps else None,
        )
        for name, dataset in opened.items()
    )
    agree = action_clash(opened) is None
    acting = [info for info in infos if info.action_dims]
    mean, std = _frame_statistics(infos, [member.share for member in members])
    shared = (f"{one} goes with {other}" for one, other in sorted((twins or {}).items()))
    described = (*(member.model_dump_json(exclude={"url"}) for member in members), *shared)
    return DatasetInfo(
        revision=files.digest("mixture", *described),
        num_episodes=sum(info.num_episodes for info in infos),
        num_frames=sum(info.num_frames for info in infos),
        num_shards=sum(info.num_shards for info in infos),
        image_size=infos[0].image_size,
        resize=infos[0].resize,
        fps=tuple(sorted({fps for info in infos for fps in info.fps})),
        embodiments=_summed([info.embodiments for info in infos]),
        licences=_summed([info.licences for info in infos]),
        instructions=_instructions([dataset.index for dataset in opened.values()]),
        has_actions=agree and all(info.has_actions for info in infos),
        action_dims=acting[0].action_dims if acting and agree else 0,
        action_names=next((info.action_names for info in acting if info.action_names), ()) if agree else (),
        proprioception_dims=_common([info.proprioception_dims for info in infos]),
        frame_mean=mean,
        frame_std=std,
        source={"kind": "mixture", "datasets": {member.name: member.url for member in members}},
        conventions=_common_conventions(infos) if agree else Conventions(),
        members=members,
        twins=None if twins is None else dict(twins),
    )


def shares_of(config: MixtureConfig, hours: Mapping[str, float]) -> dict[str, float]:
    """Share of each dataset in the samples that training draws: from weights, or else from its hours."""
    exponent = 1 / (config.temperature or 1.0)
    sizes = {name: part.weight or hours[name] ** exponent for name, part in sorted(config.datasets.items())}
    total = sum(sizes.values())
    return {name: size / total for name, size in sizes.items()}


def hours_of(dataset: Dataset) -> float:
    frames, fps = dataset.index["num_frames"].to_numpy(), dataset.index["fps"].to_numpy()
    return float((frames / fps).sum() / 3600)


def action_clash(opened: Mapping[str, Dataset]) -> str | None:
    """What two of the datasets mean differently by their actions, in words; None where all of them agree.

    Datasets without actions say nothing. An action belongs to the rate that it is sent at, so rates count too.
    """
    acting = {name: dataset.info for name, dataset in opened.items() if dataset.info.action_dims}
    if len(acting) < 2:
        return None
    (first, info), *others = acting.items()
    for name, other in others:
        if info.action_dims != other.action_dims:
            return (
                f"an action has {info.action_dims} dimensions in dataset '{first}' and {other.action_dims} in dataset "
                f"'{name}'"
            )
        spaces = (known_actions(each.conventions, each.action_names) for each in (info, other))
        if (found := difference(*spaces, here=f"dataset '{first}'", there=f"dataset '{name}'")) is not None:
            return found
        rates = [each.conventions.control_hz or max(each.fps) for each in (info, other)]
        if rates[0] != rates[1]:
            return f"an action is sent {rates[0]:g} times a second in dataset '{first}' and {rates[1]:g} in '{name}'"
    return None


def _refuse_mixtures(opened: Mapping[str, Dataset]) -> None:
    nested = [name for name, dataset in opened.items() if dataset.info.members]
    if nested:
        raise ConfigError(f"dataset '{nested[0]}' is a mixture itself; name its datasets in this one instead")


def _refuse_sizes(opened: Mapping[str, Dataset]) -> None:
    """Frames of one batch are one array."""
    looks = {name: (dataset.info.image_size, dataset.info.resize) for name, dataset in opened.items()}
    (first, look), *others = looks.items()
    for name, other in others:
        if other != look:
            raise ConfigError(
                f"frames are {look[0]} pixels wide ({look[1]}) in dataset '{first}' and {other[0]} ({other[1]}) in "
                f"dataset '{name}', and a batch has frames of one size: ingest both with the same image_size and resize"
            )


def _common_conventions(infos: Sequence[DatasetInfo]) -> Conventions:
    """Of several that do not clash: what any of them says; cameras of all."""
    found = Conventions()
    for info in infos:
        found = found.over(info.conventions)
    bodies = {name for info in infos for name in info.embodiments}
    return found.model_copy(
        update={
            "cameras": tuple(sorted({camera for info in infos for camera in info.conventions.cameras})),
            "embodiment": bodies.pop() if len(bodies) == 1 else None,
            "licence": None,
        }
    )


def _frame_statistics(
    infos: Sequence[DatasetInfo], shares: Sequence[float]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Per channel, of the frames that training sees."""
    weights = np.asarray(shares)[:, None]
    means, stds = (np.array([getattr(info, name) for info in infos]) for name in ("frame_mean", "frame_std"))
    mean = (weights * means).sum(0)
    variance = (weights * (stds**2 + means**2)).sum(0) - mean**2
    red, green, blue = mean.tolist()
    red_std, green_std, blue_std = np.sqrt(np.maximum(variance, 0)).tolist()
    return (red, green, blue), (red_std, green_std, blue_std)


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def _instructions(tables: Sequence[pa.Table]) -> int:
    return len({text for table in tables for text in table["instruction"].unique().to_pylist()} - {""})


def _common(numbers: Sequence[int]) -> int:
    return numbers[0] if len(set(numbers)) == 1 else 0
