"""What a labeller was trained on: `learned-from.json` beside its weights, so that a model folder tells whose frames.

The weights' digest does not cover it: corrected conventions of a dataset make no other model.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lapa import files
from lapa.config.conventions import Conventions
from lapa.data.dataset import Dataset
from lapa.errors import CheckpointError, ConventionMismatch

LEARNED_FROM_FILE = "learned-from.json"


class LearnedFrom(BaseModel):
    """A dataset, as its `dataset.json` said, and how its frames were paired."""

    model_config = ConfigDict(frozen=True)

    revision: str
    """Hash over the content of the dataset."""
    window_seconds: float
    """Between the frames of a pair; a mixture's members may have their own."""
    fps: tuple[float, ...]
    """Distinct frame rates, frames per second, ascending."""
    image_size: int
    """Side of the square frames, pixels."""
    resize: str
    """How the source's frames became squares: `crop` or `squash`."""
    embodiments: dict[str, int]
    """Episodes per embodiment."""
    licences: dict[str, int]
    """Episodes per licence."""
    conventions: Conventions = Conventions()
    """What the dataset's numbers mean, as far as that was known."""

    @classmethod
    def of(cls, dataset: Dataset, window_seconds: float) -> Self:
        info = dataset.info
        return cls(
            revision=info.revision,
            window_seconds=window_seconds,
            fps=info.fps,
            image_size=info.image_size,
            resize=info.resize,
            embodiments=info.embodiments,
            licences=info.licences,
            conventions=info.conventions,
        )


def keep_learned_from(model_url: str, dataset: Dataset, window_seconds: float) -> None:
    """Write it beside the model."""
    learned = LearnedFrom.of(dataset, window_seconds)
    files.write_json(files.join(model_url, LEARNED_FROM_FILE), learned.model_dump(mode="json"))


def learned_from(model_url: str) -> LearnedFrom | None:
    """None for a model that nothing was learned for here (released weights), or before this was kept."""
    url = files.join(model_url, LEARNED_FROM_FILE)
    if not files.exists(url):
        return None
    try:
        return LearnedFrom.model_validate(files.read_json(url))
    except (ValueError, ValidationError) as error:
        raise CheckpointError(f"{url} is damaged: {error}. Make the stage again: lapactl run … --force laq.") from error


def refuse_other_frames(model_url: str, dataset: Dataset, window_seconds: float, *, role: str) -> None:
    """ConventionMismatch where the model learned from frames of another kind than those it is to label."""
    known = learned_from(model_url)
    if known is None:
        return
    if known.resize != dataset.info.resize:
        raise ConventionMismatch(
            f"the model {model_url} learned from frames made square by '{known.resize}', and those of '{role}' "
            f"({dataset.url}) are by '{dataset.info.resize}': ingest '{role}' with resize={known.resize}, or train the "
            "model on frames like these"
        )
    if known.window_seconds != window_seconds:
        raise ConventionMismatch(
            f"the model {model_url} names changes over {known.window_seconds:g} seconds, and '{role}' is to be "
            f"labelled over {window_seconds:g}: set laq.window_seconds={known.window_seconds:g}, or train it anew"
        )
