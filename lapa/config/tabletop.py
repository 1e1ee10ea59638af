"""The tabletop's worlds and tasks: where an episode happens and what may be asked for in it."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from lapa.config.base import Config

WorldName = Literal["studio", "workshop"]
TaskKind = Literal["reach", "push-direction", "push-to", "push-to-place", "push-beside", "separate"]
ALL_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)
Split = Literal["seen", "unseen-object", "unseen-combination", "unseen-wording"]
SPLITS: tuple[Split, ...] = get_args(Split)


class Distractors(Config):
    """What moves in the picture though no action moves it; real videos are full of it."""

    moving_shapes: int = Field(3, ge=0)
    """Shapes that drift over the table and touch nothing."""
    camera_shake: float = Field(0.01, ge=0)
    """Standard deviation of the camera's position, in table widths; correlated over timesteps."""
    light: float = Field(0.15, ge=0)
    """Standard deviation of the brightness, as a share; correlated over timesteps."""


class TabletopScene(Config):
    """One world: how it looks, and how its robot moves."""

    world: WorldName = "studio"
    """`workshop` has another table, palette, camera and pusher, half the control rate, another step length and
    turned action axes: no action of one world means the same in the other."""
    objects: Literal[4, 6] = 4
    """Kinds of blocks that exist; four of them lie on the table."""
    distractors: Distractors | None = None


class TabletopTasks(Config):
    """What episodes ask for."""

    kinds: tuple[TaskKind, ...] = ("reach", "push-direction", "push-to")
    """Task kinds, in turn."""
    splits: tuple[Split, ...] = ()
    """Empty asks for everything. `seen` leaves out what the others hold: tasks that name a held-out object, held-out
    combinations of seen objects and goals, and held-out wordings. Episodes of several splits take turns."""
    wordings: Literal["first", "any"] = "first"
    """`first` says a task always in the same words; `any` draws among those that the split allows."""

    @property
    def num_cells(self) -> int:
        """Combinations of a kind and a split that there are tasks of; episodes take turns in them."""
        without_tasks = self.kinds.count("reach") * self.splits.count("unseen-combination")
        return len(self.kinds) * max(1, len(self.splits)) - without_tasks

    @model_validator(mode="after")
    def _asks_for_something(self) -> "TabletopTasks":
        if not self.kinds:
            raise ValueError("kinds must name at least one")
        if self.num_cells == 0:
            raise ValueError("reach has no combinations of an object and a goal; add another kind or split")
        return self
