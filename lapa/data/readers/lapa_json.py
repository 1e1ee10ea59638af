"""The LAPA reference's finetuning JSON: a row per step with a picture, a question, and the answer's `raw_actions`.

Both its forms are read: the list with `conversations`, and the JSON lines that its preprocessing makes of it.
"""

import json
import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from lapa import files
from lapa.config.sources import LapaJsonSource
from lapa.data.readers.base import SourceFile, SourceItem, episode_id, fingerprint, list_files
from lapa.data.readers.images import decode_images
from lapa.errors import ConfigError, SourceError
from lapa.types.episodes import Episode, Frame


@dataclass(frozen=True)
class _Step:
    row: int
    image: str
    instruction: str
    action: tuple[float, ...]
    state: tuple[float, ...]


@dataclass
class _Recording:
    steps: list[_Step] = field(default_factory=list)
    problem: str | None = None
    """What is wrong with one of its rows; the episode is then left out."""


class LapaJsonReader:
    """One item per episode: the rows whose pictures lie together."""

    def __init__(self, config: LapaJsonSource) -> None:
        self.config = config
        self.folder = config.images or config.url.rpartition("/")[0] or "."
        self.episodes = _episodes(_read_rows(config.url), config.episode_pattern, config.url)
        self.files: Mapping[str, SourceFile] = list_files(self.folder)

    def items(self) -> list[SourceItem]:
        return [
            SourceItem(
                key=name,
                fingerprint=fingerprint(
                    episode.problem, *episode.steps, *(self.files.get(step.image) for step in episode.steps)
                ),
            )
            for name, episode in sorted(self.episodes.items())
        ]

    def read(self, item: SourceItem) -> Iterator[Episode]:
        episode = self.episodes[item.key]
        if episode.problem is not None:
            raise SourceError(episode.problem)
        steps = sorted(episode.steps, key=lambda step: (_natural(step.image), step.row))
        self._check(item.key, steps)
        states = [step.state for step in steps]
        yield Episode(
            id=episode_id(item.key),
            frames=partial(self._frames, [step.image for step in steps], item.key),
            fps=self.config.fps,
            instruction=steps[0].instruction,
            actions=np.array([step.action for step in steps], np.float32),
            proprioception=np.array(states, np.float32) if states[0] else None,
            embodiment=self.config.embodiment,
            licence=self.config.licence,
            source=item.key,
        )

    def _check(self, name: str, steps: list[_Step]) -> None:
        """Raises SourceError for steps that are no single recording."""
        missing = [step.image for step in steps if step.image not in self.files]
        if missing:
            raise SourceError(
                f"{name}: {len(missing)} of its {len(steps)} pictures are not below {self.folder}, first "
                f"{missing[0]!r}. Set source.images to the folder that the paths are relative to."
            )
        for what, values in (
            ("instructions", {step.instruction for step in steps}),
            ("numbers of action dimensions", {len(step.action) for step in steps}),
            ("numbers of states", {len(step.state) for step in steps}),
        ):
            if len(values) > 1:
                raise SourceError(
                    f"{name} has rows of {len(values)} {what}, {sorted(values)[:2]} among them. Set "
                    "source.episode_pattern so that they are told apart, or repair the rows."
                )
        if len({step.image for step in steps}) < len(steps):
            raise SourceError(f"{name} has several rows for one picture. Remove the repeated rows.")

    def _frames(self, images: list[str], name: str) -> Iterator[Frame]:
        sizes = set()
        for image in images:
            try:
                data = files.read_bytes(files.join(self.folder, image))
            except OSError as error:
                raise SourceError(f"{name}: {image} cannot be read: {error}.") from error
            (frame,) = decode_images([data], f"{name}, {image}")
            sizes.add(frame.shape)
            if len(sizes) > 1:
                raise SourceError(f"{name} has pictures of different sizes, {image} among them. Repair or remove it.")
            yield frame


def _read_rows(url: str) -> list[Any]:
    """A JSON list, or one object per line."""
    try:
        text = files.read_bytes(url).decode("utf-8-sig")
        rows = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(x) for x in text.splitlines() if x.strip()]
        )
    except FileNotFoundError as error:
        raise SourceError(f"{url} does not exist. Check the source's url.") from error
    except ValueError as error:
        raise SourceError(f"{url} is neither a JSON list nor JSON lines: {error}. Export it again.") from error
    if not rows:
        raise SourceError(f"{url} has no rows.")
    return list(rows)


def _episodes(rows: list[Any], pattern: str, url: str) -> dict[str, _Recording]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"episode_pattern={pattern!r} is not a regular expression: {error}.") from error
    if "episode" not in expression.groupindex:
        raise ConfigError(f"episode_pattern={pattern!r} needs a group named `episode`, such as (?P<episode>.*).")
    episodes: dict[str, _Recording] = {}
    for number, row in enumerate(rows):
        name = f"row {number}"
        try:
            image = posixpath.normpath(str(row["image"])).lstrip("/")
            found = expression.search(image)
            name = found.group("episode") if found else image
            step = _step(number, image, row)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            problem = (
                f"row {number} of {url} has no usable `image`, `conversations` and `raw_actions`: {error!r}. Repair it."
            )
            episodes.setdefault(name, _Recording()).problem = problem
            continue
        episodes.setdefault(name, _Recording()).steps.append(step)
    return episodes


def _step(number: int, image: str, row: Mapping[str, Any]) -> _Step:
    """Raises KeyError, TypeError, ValueError or IndexError for a row of another shape."""
    if "conversations" in row:
        question, answer = row["conversations"][0]["value"], row["conversations"][1]
    else:
        question, answer = row["instruction"], row
    action = tuple(float(value) for value in answer["raw_actions"])
    if not action or not all(map(math.isfinite, action)):
        raise ValueError(f"raw_actions are {answer['raw_actions']!r}")
    states = answer.get("states") or {}
    return _Step(number, image, _instruction(str(question)), action, tuple(_flat(states)))


def _instruction(question: str) -> str:
    """What stands between the backticks of "What action should the robot take to `…`"; else all of it but the frame."""
    quoted = re.search(r"`([^`]*)`", question)
    if quoted:
        return quoted[1].strip()
    return re.sub(r"^(<s>)?.*USER:|ASSISTANT:\s*$|<image>", "", question, flags=re.DOTALL).strip()


def _flat(value: Any) -> Iterator[float]:
    """Numbers of nested objects and lists, objects in the order of their keys."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _flat(value[key])
    elif isinstance(value, list):
        for part in value:
            yield from _flat(part)
    else:
        yield float(value)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts `step_10` after `step_9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
