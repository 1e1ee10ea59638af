"""HDF5 demonstrations as robomimic and LIBERO keep them: `data/demo_0/actions`, `data/demo_0/obs/agentview_image`."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from fsspec.core import url_to_fs

from lapa.config.sources import Hdf5Source
from lapa.data.readers.base import SourceFile, SourceItem, episode_id, fingerprint, list_files
from lapa.errors import MissingDependency, SourceError
from lapa.types.episodes import Episode, Frame

ENDINGS = (".hdf5", ".h5")
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)
"""What h5py raises for a file whose inside does not add up."""
READ_FRAMES = 64
"""Pictures are read this many at a time: a demonstration need not fit in memory."""


class Hdf5Reader:
    """One item per demonstration; listing opens each file, and reads the names in it."""

    def __init__(self, config: Hdf5Source) -> None:
        _h5py()  # told before anything is listed
        self.config = config
        listing = list_files(config.url)
        self.files = {name: file for name, file in listing.items() if name.lower().endswith(ENDINGS)}
        if not self.files:
            raise SourceError(
                f"{config.url} holds no {' or '.join(ENDINGS)} among its {len(listing)} files. Check the source's url."
            )

    def items(self) -> list[SourceItem]:
        items = []
        for name, file in self.files.items():
            try:
                with self._opened(file) as content:
                    demos = self._demos(content, name)
            except (SourceError, *DAMAGE):
                items.append(SourceItem(key=name, fingerprint=fingerprint(file)))  # reading it says what is wrong
                continue
            items += [SourceItem(key=f"{name}#{demo}", fingerprint=fingerprint(file)) for demo in demos]
        return sorted(items, key=lambda item: item.key)

    def read(self, item: SourceItem) -> Iterator[Episode]:
        name, _, demo = item.key.partition("#")
        with self._opened(self.files[name]) as content:
            try:
                self._demos(content, name)  # says what is wrong with a file that has none
                episode = self._episode(content, name, demo)
            except DAMAGE as error:
                raise SourceError(f"{item.key} is damaged: {error}. Download the file again.") from error
        yield episode

    def _episode(self, content: Any, name: str, demo: str) -> Episode:
        group, key = content["data"][demo], f"{name}#{demo}"
        camera = self._camera(group, key)
        actions = _matrix(group, self.config.action_key, key)
        states = [_matrix(group, f"obs/{state}", key) for state in self.config.proprioception_keys]
        if len({len(part) for part in [actions, *states]}) != 1:
            raise SourceError(
                f"{key} has {len(actions)} actions and {[len(part) for part in states]} rows of proprioception; they "
                "must agree. Export it again."
            )
        return Episode(
            id=episode_id(key),
            frames=partial(self._frames, self.files[name], demo, camera, key),
            fps=self._fps(content, name),
            instruction=self._instruction(content),
            actions=actions,
            proprioception=np.concatenate(states, axis=1) if states else None,
            embodiment=self.config.embodiment,
            licence=self.config.licence,
            source=key,
        )

    def _demos(self, content: Any, name: str) -> list[str]:
        if "data" not in content or not hasattr(content["data"], "keys"):
            raise SourceError(
                f"{name} has no group `data` with demonstrations; it has {sorted(content)}. Only the layout of "
                "robomimic and LIBERO is read."
            )
        demos = sorted(name for name, group in content["data"].items() if hasattr(group, "keys"))
        wanted = self.config.filter_key
        if wanted is None:
            return demos
        masks = content.get("mask")
        if masks is None or wanted not in masks:
            raise SourceError(
                f"{name} has no mask/{wanted}; it has {sorted(masks or ())}. Set source.filter_key to one of them."
            )
        chosen = {demo.decode() if isinstance(demo, bytes) else str(demo) for demo in masks[wanted][:]}
        return [demo for demo in demos if demo in chosen]

    def _camera(self, group: Any, name: str) -> str:
        observations = group.get("obs", {})
        pictures = [
            key for key, values in sorted(observations.items())
            if getattr(values, "ndim", 0) == 4 and values.shape[-1] == 3 and values.dtype == np.uint8
        ]  # fmt: skip
        wanted = self.config.camera or next((key for key in pictures if key.startswith("agentview")), None)
        if wanted is None and pictures:
            return pictures[0]
        if wanted is not None and wanted in pictures:
            return wanted
        raise SourceError(
            f"{name} has no uint8 pictures obs/{wanted or '*'} of three channels; it has {pictures}, and other "
            f"observations {sorted(set(observations) - set(pictures))}. Set source.camera, or render the pictures into "
            "the file first."
        )

    def _frames(self, file: SourceFile, demo: str, camera: str, name: str) -> Iterator[Frame]:
        with self._opened(file) as content:
            for start in itertools.count(step=READ_FRAMES):
                try:
                    part = content["data"][demo]["obs"][camera][start : start + READ_FRAMES]
                except (OSError, RuntimeError) as error:
                    raise SourceError(
                        f"{name} is damaged after picture {start}: {error}. Download it again."
                    ) from error
                if len(part) == 0:
                    return
                for picture in part:
                    yield self._upright(picture)

    def _upright(self, picture: np.ndarray) -> Frame:
        match self.config.flip:
            case "none":
                return picture
            case "vertical":
                return np.ascontiguousarray(picture[::-1])
            case "both":
                return np.ascontiguousarray(picture[::-1, ::-1])

    def _fps(self, content: Any, name: str) -> float:
        if self.config.fps is not None:
            return self.config.fps
        arguments = _attribute(content["data"], "env_args").get("env_kwargs")
        rate = arguments.get("control_freq") if isinstance(arguments, dict) else None
        if not isinstance(rate, int | float) or rate <= 0:
            raise SourceError(f"{name} does not say its control rate. Set source.fps (LIBERO and robomimic: 20).")
        return float(rate)

    def _instruction(self, content: Any) -> str:
        if self.config.instruction is not None:
            return self.config.instruction
        said = _attribute(content["data"], "problem_info").get("language_instruction", "")
        # Some LIBERO files keep it as a list of characters.
        text = "".join(map(str, said)) if isinstance(said, list) else str(said)
        return re.sub(r"\s+", " ", text).strip().strip('"')

    @contextmanager
    def _opened(self, file: SourceFile) -> Iterator[Any]:
        fs, _ = url_to_fs(self.config.url)
        with fs.open(file.path, "rb") as handle:
            try:
                content = _h5py().File(handle, "r")
            except DAMAGE as error:
                raise SourceError(f"{file.name} cannot be opened as HDF5: {error}. Download it again.") from error
            with content:
                yield content


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependency("HDF5 files need the package h5py. Install it: pip install 'lapa[hdf5]'") from error
    return h5py


def _matrix(group: Any, key: str, name: str) -> np.ndarray:
    """Float32 ``t d``."""
    values = group.get(key)
    if values is None or not hasattr(values, "dtype") or values.dtype.kind not in "fiu" or values.ndim not in (1, 2):
        raise SourceError(
            f"{name} has no numbers {key!r} with one row per step; it has {sorted(group)} and under obs "
            f"{sorted(group.get('obs', ()))}. Set the source's keys accordingly."
        )
    return np.asarray(values[:], np.float32).reshape(len(values), -1)


def _attribute(group: Any, name: str) -> Mapping[str, Any]:
    """A JSON object kept as an attribute; empty where there is none, or another thing."""
    text = group.attrs.get(name, "{}")
    try:
        value = json.loads(text if isinstance(text, str | bytes) else "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
