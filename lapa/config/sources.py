"""Foreign formats beyond video folders, LeRobot and RLDS."""

from typing import Literal

from pydantic import Field

from lapa.config.base import Config


class WebDatasetSource(Config):
    """WebDataset tars with a video in each sample, such as `lapactl data convert` writes."""

    kind: Literal["webdataset"] = "webdataset"
    url: str
    """Folder of `.tar` files, or one of them."""
    action_member: str | None = "actions.npy"
    """Ending of the member with one row per frame; samples without it have no actions."""
    proprioception_member: str | None = "proprioception.npy"
    instruction_key: str = "instruction"
    """Of the sample's `.json`; its `.txt` where there is none."""
    embodiment: str = "unknown"
    """For samples whose `.json` gives none, like `licence`."""
    licence: str = "unknown"


class Hdf5Source(Config):
    """HDF5 demonstrations in the layout of robomimic and LIBERO: `data/demo_*/actions` and `data/demo_*/obs/*`."""

    kind: Literal["hdf5"] = "hdf5"
    url: str
    """Folder of `.hdf5` or `.h5` files, or one of them."""
    camera: str | None = None
    """Dataset under `obs` with uint8 pictures; the first one, `agentview…` before others, when not given."""
    flip: Literal["none", "vertical", "both"] = "none"
    """robosuite, and LIBERO with it, stores pictures upside down as OpenGL draws them: `vertical` puts them upright,
    `both` turns them by 180 degrees, as some published policies do."""
    action_key: str = "actions"
    proprioception_keys: tuple[str, ...] = ()
    """Datasets under `obs`, joined in this order; LIBERO: `ee_states`, `gripper_states`."""
    fps: float | None = Field(None, gt=0)
    """Control rate; the file's `env_args.env_kwargs.control_freq` when not given."""
    filter_key: str | None = None
    """Only the demonstrations that `mask/<filter_key>` lists, such as `train`."""
    instruction: str | None = None
    """For all; LIBERO files carry their own."""
    embodiment: str = "unknown"
    licence: str = "unknown"


class LapaJsonSource(Config):
    """The finetuning JSON of the LAPA reference implementation: one picture, instruction and `raw_actions` per step."""

    kind: Literal["lapa-json"] = "lapa-json"
    url: str
    """The `.json` or `.jsonl` file."""
    images: str | None = None
    """Folder that the rows' `image` paths are relative to; the file's own folder when not given."""
    fps: float = Field(gt=0)
    """Control rate; the format does not store it. Bridge and SIMPLER: 5."""
    episode_pattern: str = r"^(?P<episode>.*)/"
    """Regular expression with a group `episode`, matched against each row's `image`; the picture's folder by default.
    Inside an episode, steps follow the numbers in their pictures' names."""
    embodiment: str = "unknown"
    licence: str = "unknown"


class SomethingSomethingSource(Config):
    """Something-Something v2: `<id>.webm` files and a label file whose templates are filled with their objects."""

    kind: Literal["something-something"] = "something-something"
    url: str
    """Folder of the videos."""
    labels: str
    """URL of `train.json`, `validation.json` or the like: `id`, `template`, `placeholders`, `label`."""
    embodiment: str = "human"
    licence: str = "unknown"


class NarratedVideosSource(Config):
    """Long videos with a table of narrated clips, as EPIC-KITCHENS and Ego4D exports have it."""

    kind: Literal["narrated-videos"] = "narrated-videos"
    url: str
    """Folder of the videos; a clip's video is found by its name without the extension, at any depth."""
    narrations: str
    """URL of a CSV or a JSON list: one row per clip."""
    video_column: str = "video_id"
    start_column: str = "start_timestamp"
    """Seconds, or `HH:MM:SS.ss`."""
    stop_column: str | None = "stop_timestamp"
    """Null where the table has one moment per narration: the clip then reaches from half of `clip_seconds` before it
    to half after it."""
    text_column: str = "narration"
    clip_seconds: float = Field(4.0, gt=0)
    """Length of clips where the table has one moment; nothing else reads it."""
    max_clip_seconds: float = Field(60.0, gt=0)
    """Longer clips are reported as failed: such a span is a mistake in the table."""
    embodiment: str = "human"
    licence: str = "unknown"
