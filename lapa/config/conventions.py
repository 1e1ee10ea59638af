"""What a dataset's numbers mean: the action space, its rate, the cameras, the body and the licence.

Declared with `conventions` of an ingest, or known of the source (LeRobot's features, a table of Open-X datasets);
checked when the dataset is written, kept in `dataset.json`, and carried to the policy bundle.
"""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from lapa.config.base import Config

Unit = Literal["m", "mm", "rad", "deg", "m/s", "rad/s", "normalized", "share", "quaternion", "unknown"]
"""`normalized` is within [-1, 1], `share` within [0, 1], both of whatever the robot's driver makes of them."""
Mode = Literal["absolute", "delta", "velocity", "unknown"]
"""`absolute`: where to be. `delta`: how far to move in this timestep. `velocity`: how fast to move meanwhile."""
ReferenceFrame = Literal["base", "world", "end-effector", "camera", "joint", "unknown"]


class DimensionConvention(Config):
    """One dimension of an action. What is `unknown` is compared with nothing."""

    name: str = Field(min_length=1)
    unit: Unit = "unknown"
    mode: Mode = "unknown"
    frame: ReferenceFrame = "unknown"
    """Where the number is measured: `joint` for a joint's own angle."""
    open: float | None = None
    """Of a gripper: the value that opens it, or that says it is open."""
    closed: float | None = None

    @property
    def is_gripper(self) -> bool:
        return self.open is not None

    @property
    def in_words(self) -> str:
        """`rad, absolute, joint`; empty where nothing is known."""
        known = [word for word in (self.unit, self.mode, self.frame) if word != "unknown"]
        polarity = [f"opens at {self.open:g}", f"closes at {self.closed:g}"] if self.is_gripper else []
        return ", ".join([*known, *polarity])

    @model_validator(mode="after")
    def _polarity_is_whole(self) -> Self:
        if (self.open is None) != (self.closed is None):
            raise ValueError(f"dimension '{self.name}' says only one of open and closed; set both, or neither")
        if self.open is not None and self.open == self.closed:
            raise ValueError(f"dimension '{self.name}' is {self.open:g} both open and closed; correct one of them")
        return self


class Conventions(Config):
    """Everything about a dataset that no array tells; what is empty or None is not known."""

    actions: tuple[DimensionConvention, ...] = ()
    """Every dimension, in the order of the numbers."""
    control_hz: float | None = Field(None, gt=0)
    """Actions per second; the frame rate of episodes with actions when not given."""
    cameras: tuple[str, ...] = ()
    """Names of the views that the frames show, as the source calls them."""
    embodiment: str | None = None
    """For episodes whose source names none, like `licence`."""
    licence: str | None = None
    """An SPDX identifier where there is one: `CC-BY-4.0`."""

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(dimension.name for dimension in self.actions)

    def over(self, known: "Conventions") -> "Conventions":
        """These, and where they say nothing, those: what a user declares goes before what a source says."""
        given = {name: value for name in type(self).model_fields if (value := getattr(self, name)) not in (None, ())}
        return known.model_copy(update=given)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        repeated = sorted({name for name in self.action_names if self.action_names.count(name) > 1})
        if repeated:
            raise ValueError(f"actions has dimensions of the same name: {', '.join(repeated)}; give each its own")
        return self


def known_actions(conventions: Conventions, names: Sequence[str]) -> tuple[DimensionConvention, ...]:
    """What is known of the dimensions, where arrays come with names and nothing else."""
    return conventions.actions or tuple(DimensionConvention(name=name) for name in names)


def difference(
    one: Sequence[DimensionConvention], other: Sequence[DimensionConvention], *, here: str, there: str
) -> str | None:
    """Where two action spaces say different things, in words; None where they agree as far as both say something.

    `here` and `there` name who says what: "the dataset 'bridge'".
    """
    if not one or not other:
        return None
    mine, theirs = ([dimension.name for dimension in space] for space in (one, other))
    if mine != theirs:
        return f"the actions are {', '.join(mine)} in {here} and {', '.join(theirs)} in {there}"
    for left, right in zip(one, other, strict=True):
        for key, word in {"unit": "in", "mode": "", "frame": "measured in the frame"}.items():
            said, meant = getattr(left, key), getattr(right, key)
            if said != meant and "unknown" not in (said, meant):
                return " ".join(f"{left.name} is {word} {said} in {here} and {meant} in {there}".split())
        if left.is_gripper and right.is_gripper and (left.open, left.closed) != (right.open, right.closed):
            return (
                f"{left.name} opens at {left.open:g} and closes at {left.closed:g} in {here}, and opens at "
                f"{right.open:g} and closes at {right.closed:g} in {there}"
            )
    return None
