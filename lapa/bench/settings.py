"""The settings of the study: where the videos come from, and where the robot is taught and tested.

The paper's three (section 4.1), and one that it lacks: videos in which things move that no action moves.
"""

from dataclasses import dataclass
from typing import Any

from lapa.config.tabletop import ALL_KINDS, SPLITS, Distractors, TabletopScene, TabletopTasks, TaskKind
from lapa.errors import ConfigError

FIRST_TEST_SEED = 2_000_000
FIRST_VALIDATION_SEED = 3_000_000
"""Hyperparameters are chosen on these tables, and never on the others."""
FIRST_DEMONSTRATION_SEED = 1_000_000
SEEDS_APART = 10_000
"""Between the tables of two study seeds."""

_STUDIO = TabletopScene(world="studio", objects=6)
_WORKSHOP = TabletopScene(world="workshop", objects=6)
_DISTRACTING = TabletopScene(world="studio", objects=6, distractors=Distractors())


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One column of the study."""

    name: str
    videos: TabletopScene
    robot: TabletopScene
    """Of the demonstrations and of the evaluation."""
    demonstrated: tuple[TaskKind, ...] = ALL_KINDS
    """Task kinds of the demonstrations; all kinds are tested."""
    times_demonstrations: int = 1
    """How many times the size's demonstrations a robot of another kind gets; for all methods alike."""
    times_finetuning: int = 1
    """How many times the size's steps these are learned from."""
    finetune_rate: float = 3e-4
    """Learning rate of finetuning what was pretrained, chosen on validation tables."""
    says: str
    """What it asks, in one sentence."""

    @property
    def shares_actions(self) -> bool:
        """Whether an action of the videos' world means the same to the robot."""
        return self.videos.world == self.robot.world

    def run_settings(
        self, *, videos: int, demonstrations: int, episodes: int, seed: int, validation: bool
    ) -> dict[str, Any]:
        """What the setting and the seed decide about a run."""
        first = (FIRST_VALIDATION_SEED if validation else FIRST_TEST_SEED) + SEEDS_APART * seed
        everything = TabletopTasks(kinds=ALL_KINDS, wordings="any")
        taught = TabletopTasks(kinds=self.demonstrated, splits=("seen",), wordings="any")
        tested = TabletopTasks(kinds=ALL_KINDS, splits=SPLITS, wordings="any")
        return {
            "videos.source": {
                # With actions: methods that know them need them, and LAPA does not read them.
                "record": "demonstrations",
                "scene": self.videos.model_dump(mode="json"),
                "tasks": everything.model_dump(mode="json"),
                "episodes": videos,
                "seed": 0,
            },
            "robot.source": {
                "scene": self.robot.model_dump(mode="json"),
                "tasks": taught.model_dump(mode="json"),
                "episodes": demonstrations * self.times_demonstrations,
                "seed": FIRST_DEMONSTRATION_SEED + seed,
            },
            "evaluate.simulator": {
                "scene": self.robot.model_dump(mode="json"),
                "tasks": tested.model_dump(mode="json"),
                "episodes": episodes,
                "seed": first,
            },
        }


IN_DOMAIN = Setting(
    name="in-domain", videos=_STUDIO, robot=_STUDIO, says="videos and robot in one world, demonstrations of every kind"
)
CROSS_TASK = Setting(
    name="cross-task",
    videos=_STUDIO,
    robot=_STUDIO,
    demonstrated=("push-to",),
    says="videos of every kind of task, demonstrations of one kind (push-to)",
)
CROSS_ENVIRONMENT = Setting(
    name="cross-environment",
    videos=_STUDIO,
    robot=_WORKSHOP,
    # With 50 no method learns this body and camera at all: on validation tables all stay at scratch's level.
    times_demonstrations=8,
    times_finetuning=3,
    finetune_rate=1e-3,
    says="the robot has another table, camera, pusher, control rate and action space than the videos",
)
DISTRACTORS = Setting(
    name="distractors",
    videos=_DISTRACTING,
    robot=_DISTRACTING,
    says="in-domain, with things that no action moves: drifting shapes, camera shake, changing light",
)
SETTINGS = {setting.name: setting for setting in (IN_DOMAIN, CROSS_TASK, CROSS_ENVIRONMENT, DISTRACTORS)}


def setting_named(name: str) -> Setting:
    """Raises ConfigError for a setting that does not exist."""
    if name not in SETTINGS:
        raise ConfigError(f"'{name}' is not a setting of the benchmark; valid: {', '.join(SETTINGS)}")
    return SETTINGS[name]
