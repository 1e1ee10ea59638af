"""Tasks in English, and English as tasks."""

from functools import lru_cache

from lapa.config.tabletop import ALL_KINDS, TaskKind
from lapa.envs.tabletop.objects import BLOCK_NAMES
from lapa.envs.tabletop.tasks import Task, kind_of, tasks_of
from lapa.errors import ConfigError

WORDINGS: dict[TaskKind, tuple[str, ...]] = {
    "reach": (
        "reach the {block}",
        "go to the {block}",
        "move to the {block}",
        "touch the {block}",
        "approach the {block}",
    ),
    "push-direction": (
        "push the {block} {direction}",
        "move the {block} {direction}",
        "slide the {block} {direction}",
        "shove the {block} {direction}",
        "make the {block} go {direction}",
    ),
    "push-to": (
        "push the {block} to the {goal}",
        "bring the {block} to the {goal}",
        "slide the {block} next to the {goal}",
        "put the {block} beside the {goal}",
        "let the {block} and the {goal} touch",
    ),
    "push-to-place": (
        "push the {block} to the {place}",
        "move the {block} to the {place}",
        "slide the {block} over to the {place}",
        "put the {block} at the {place}",
        "take the {block} and bring it to the {place}",
    ),
    "push-beside": (
        "push the {block} {side} the {goal}",
        "move the {block} {side} the {goal}",
        "slide the {block} until it is {side} the {goal}",
        "put the {block} {side} the {goal}",
        "the {block} should lie {side} the {goal}",
    ),
    "separate": (
        "separate the {block} from the {goal}",
        "move the {block} away from the {goal}",
        "push the {block} and the {goal} apart",
        "pull the {block} off the {goal}",
        "get some distance between the {block} and the {goal}",
    ),
}
"""The first wording of each kind is the one that is used unless any is asked for."""
HELD_OUT_WORDINGS = 2
"""So many of each kind's wordings, the last ones, are held out."""


def instruction_of(task: Task, wording: int = 0) -> str:
    """The task in English; other wordings are paraphrases."""
    wordings = WORDINGS[kind_of(task)]
    return wordings[wording % len(wordings)].format(**vars(task))


def parse_instruction(text: str) -> Task:
    """The task that an instruction asks for; `ConfigError` when no wording fits."""
    known = _task_of_instruction()
    task = known.get(" ".join(text.lower().strip(" .!").split()))
    if task is None:
        raise ConfigError(
            f"The tabletop does not understand {text!r}. Say it like {sorted(known)[0]!r}; "
            f"blocks are {', '.join(BLOCK_NAMES)}."
        )
    return task


@lru_cache
def _task_of_instruction() -> dict[str, Task]:
    return {
        instruction_of(task, wording): task
        for kind in ALL_KINDS
        for task in tasks_of(kind, len(BLOCK_NAMES))
        for wording in range(len(WORDINGS[kind]))
    }
