"""Where episodes come from, how they are stored, and how training reads them."""

from typing import Annotated, Literal, assert_never

from pydantic import Field, model_validator

from lapa.config.base import Config, added, runtime
from lapa.config.conventions import Conventions
from lapa.config.metaworld import METAWORLD_TASKS, MetaWorldCamera, MetaWorldTask
from lapa.config.quality import QualityConfig
from lapa.config.sources import (
    Hdf5Source,
    LapaJsonSource,
    NarratedVideosSource,
    SomethingSomethingSource,
    WebDatasetSource,
)
from lapa.config.tabletop import TabletopScene, TabletopTasks


class SidecarInstructions(Config):
    """Instructions from one JSON or CSV file beside the videos."""

    kind: Literal["sidecar"] = "sidecar"
    file: str = "instructions.json"
    """JSON: `{"clip.mp4": "push the cup"}` or a list of `{"file": …, "instruction": …}`. CSV: columns
    `file` and `instruction`. Paths are relative to the folder."""


class FileNameInstructions(Config):
    """Instructions spelled by the file names: `push_the_cup_017.mp4` reads as "push the cup"."""

    kind: Literal["file-name"] = "file-name"
    pattern: str = r"^(?P<instruction>.*?)[_-]*\d*$"
    """Regular expression over the name without its extension; the group `instruction` is taken, with
    underscores and dashes read as spaces."""


class ConstantInstruction(Config):
    """One instruction for every video; an empty one says that none is known."""

    kind: Literal["constant"] = "constant"
    text: str = ""


InstructionRule = Annotated[
    SidecarInstructions | FileNameInstructions | ConstantInstruction, Field(discriminator="kind")
]


class VideoFolderSource(Config):
    """A folder or bucket of raw videos without actions: mp4, webm, mkv, avi; any size, any frame rate."""

    kind: Literal["videos"] = "videos"
    url: str
    """Folder, or one file; local path, `s3://…`, or any fsspec protocol."""
    instructions: InstructionRule = ConstantInstruction()
    embodiment: str = "unknown"
    licence: str = "unknown"


class LeRobotSource(Config):
    """A LeRobot v2.0, v2.1 or v3.0 dataset: Parquet tables, mp4 videos, `meta/`."""

    kind: Literal["lerobot"] = "lerobot"
    url: str
    camera: str | tuple[str, ...] | None = None
    """Video key, as `meta/info.json` names it; the first one whose files exist when not given. Of several, each gives
    an episode of its own, and the held-out share takes all views of an episode or none."""
    action_column: str = "action"
    proprioception_column: str | None = "observation.state"
    instruction_column: str | None = None
    """Column that indexes the dataset's tasks; `task_index`, or the first annotation column, when not given."""
    embodiment: str | None = None
    """Overrides `robot_type`."""
    licence: str = "unknown"


class RldsSource(Config):
    """RLDS/TFDS TFRecord episodes, read without TensorFlow."""

    kind: Literal["rlds"] = "rlds"
    url: str
    """Folder with `dataset_info.json`, `features.json` and `*.tfrecord-*` files."""
    openx: str | None = added(None)
    """Name of an Open X-Embodiment dataset, such as `fractal20220817_data`: its rate, keys, robot and the meaning of
    its actions are then those of the table `lapa/data/readers/openx.yaml`, and the keys below are not read."""
    openx_table: str | None = added(None)
    """URL of a table of your own, in the same form; its entries go before the built-in ones."""
    camera: str | None = added(None)
    """With `openx`: `primary`, `secondary` or `wrist`; the first view of the table when not given."""
    fps: float | None = Field(None, gt=0)
    """Control rate; TFDS does not store it. Bridge: 5. With `openx`, the table's when not given."""
    split: str = "train"
    image_key: str = "image_0"
    action_key: str = "action"
    proprioception_key: str | None = "state"
    instruction_key: str = "language_instruction"
    embodiment: str = "unknown"
    licence: str = "unknown"


class TabletopSource(Config):
    """Recordings of the embedded tabletop, written as files first and then read like anybody's."""

    kind: Literal["tabletop"] = "tabletop"
    record: Literal["videos", "demonstrations"]
    """`videos`: mp4 files without actions and a sidecar. `demonstrations`: a LeRobot dataset with actions."""
    scene: TabletopScene = TabletopScene()
    tasks: TabletopTasks = TabletopTasks()
    episodes: int = Field(gt=0)
    seed: int = Field(0, ge=0)
    image_size: int = Field(48, ge=16, multiple_of=2)
    action_noise: float = Field(0.2, ge=0)
    """Standard deviation of the oracle's time-correlated noise, as a share of one step."""


class MetaWorldSource(Config):
    """Recordings of Meta-World's scripted experts: an option that needs the extra `metaworld`."""

    kind: Literal["metaworld"] = "metaworld"
    record: Literal["videos", "demonstrations"]
    """`videos`: mp4 files without actions and a sidecar. `demonstrations`: a LeRobot dataset with actions."""
    tasks: tuple[MetaWorldTask, ...] = Field(METAWORLD_TASKS, min_length=1)
    """In turn."""
    camera: MetaWorldCamera = "workspace"
    episodes: int = Field(gt=0)
    seed: int = Field(0, ge=0)
    image_size: int = Field(64, ge=16, le=512, multiple_of=2)
    action_noise: float = Field(0.2, ge=0)
    """Standard deviation of the expert's time-correlated noise, as a share of the largest action."""


SimulatedSource = TabletopSource | MetaWorldSource
"""Recorded before they are read; what they hold changes with their settings only."""
SourceConfig = Annotated[
    VideoFolderSource
    | LeRobotSource
    | RldsSource
    | WebDatasetSource
    | Hdf5Source
    | LapaJsonSource
    | SomethingSomethingSource
    | NarratedVideosSource
    | TabletopSource
    | MetaWorldSource,
    Field(discriminator="kind"),
]


class VideoEncoding(Config):
    """How frames are stored: H.264, 4:2:0."""

    crf: int = Field(18, ge=0, le=51)
    """Constant quality; lower is better and larger."""
    keyframe_seconds: float = Field(1.0, gt=0)
    """Longest distance between key frames: the price of entering an episode in its middle."""
    preset: str = "veryfast"


class IngestConfig(Config):
    """From a source to a dataset of episode shards."""

    kind: Literal["ingest"] = "ingest"
    source: SourceConfig
    conventions: Conventions | None = added(None)
    """What the source's numbers mean, where it does not say so itself; what is given here goes before what it says."""
    image_size: int = Field(256, ge=16, multiple_of=2)
    """Frames are stored as squares of this side, in pixels."""
    resize: Literal["crop", "squash"] = "crop"
    """`crop` keeps the aspect ratio and cuts the longer side's ends; `squash` distorts, as the paper did."""
    fps: float | None = Field(None, gt=0)
    """Frames are dropped to this rate; the source's own rate when not given. Never raised. Of
    episodes with actions every second, third, … frame is kept: deltas between are added up, velocities averaged, and of
    targets the last one counts. Where `conventions` do not say which they are, such an episode is refused."""
    min_frames: int = Field(2, ge=2)
    """Shorter episodes are skipped and named in the report."""
    quality: QualityConfig = added(QualityConfig())
    """Which clips are found to be of no use, and what becomes of them. By default they are named and kept."""
    max_failed_share: float = runtime(0.05, ge=0, le=1)
    """Ingest stops when more than this share of the sources failed."""
    episodes_per_shard: int = Field(256, gt=0)
    """Also the item of work: several machines share shards, and a process that is killed loses the one it was in."""
    encoding: VideoEncoding = VideoEncoding()
    workers: int | None = runtime(None, gt=0)
    """Processes; all cores when not given."""


class ExistingDataset(Config):
    """A dataset that `ingest` wrote earlier."""

    kind: Literal["dataset"] = "dataset"
    url: str


SingleDataset = Annotated[IngestConfig | ExistingDataset, Field(discriminator="kind")]


class MixturePart(Config):
    """One dataset of a mixture."""

    dataset: SingleDataset
    weight: float | None = Field(None, gt=0)
    """Share of the samples, relative to the other datasets' weights. All have one, or none."""
    window_seconds: float | None = Field(None, gt=0)
    """Distance between the frames of this dataset's pairs; the run's `laq.window_seconds` when not given."""


class MixtureConfig(Config):
    """Several datasets, read as one: each sample comes from one of them, as often as its share says."""

    kind: Literal["mixture"] = "mixture"
    datasets: dict[str, MixturePart] = Field(min_length=1)
    """By a name of yours."""
    temperature: float | None = Field(None, gt=0)
    """Without weights: shares go with hours ** (1 / temperature). 1, the default, leaves them as large as the datasets
    are; the higher, the more alike. Instead of weights, never beside them."""
    fps: float | None = Field(None, gt=0)
    """Rate that samples are drawn at: of a dataset with more frames per second, some begin no sample. Never raised."""

    @model_validator(mode="after")
    def _shares_are_told_one_way(self) -> "MixtureConfig":
        without = sorted(name for name, part in self.datasets.items() if part.weight is None)
        if without and len(without) < len(self.datasets):
            raise ValueError(
                f"{', '.join(without)} has no weight and other datasets have: give every dataset one, or none"
            )
        if not without and self.temperature is not None:
            raise ValueError(f"temperature={self.temperature:g} would be ignored beside weights: remove one of them")
        return self


DatasetConfig = Annotated[IngestConfig | ExistingDataset | MixtureConfig, Field(discriminator="kind")]


def parts_of(config: DatasetConfig) -> dict[str, IngestConfig | ExistingDataset]:
    """The datasets that a role of a run reads, by name, in the order of their rows; an only one is called ''."""
    if isinstance(config, MixtureConfig):
        return {name: config.datasets[name].dataset for name in sorted(config.datasets)}
    return {"": config}


def declared_licence(config: IngestConfig | ExistingDataset) -> str | None:
    """The licence that settings name; None where it shows only in the dataset."""
    if isinstance(config, ExistingDataset):
        return None
    declared = config.conventions.licence if config.conventions else None
    named: str = getattr(config.source, "licence", "unknown")
    return named if named != "unknown" else declared


def lacks_actions(config: DatasetConfig) -> bool:
    """Whether settings alone tell that no episode has actions; of some sources it shows only when they are read."""
    if isinstance(config, MixtureConfig):
        return any(lacks_actions(part) for part in parts_of(config).values())
    if isinstance(config, ExistingDataset):
        return False
    match config.source:
        case VideoFolderSource() | SomethingSomethingSource() | NarratedVideosSource():
            return True
        case TabletopSource(record=record) | MetaWorldSource(record=record):
            return record == "videos"
        case LeRobotSource() | RldsSource() | WebDatasetSource() | Hdf5Source() | LapaJsonSource():
            return False
        case _:
            assert_never(config.source)


class StreamConfig(Config):
    """How training reads a dataset. The sample order is a pure function of seed, epoch and sample index."""

    lanes: int = Field(8, gt=0)
    """Independent reading positions. Ranks times workers must divide it, and it must divide the batch, so
    that every world size sees the same samples in the same order."""
    shuffle_samples: int = Field(2048, gt=0)
    """Samples shuffled together inside one lane, and so the episodes that it holds decoded at once. With the length of
    an episode (whole up to 64 MiB of frames, of longer ones the part that is needed) this decides the stream's memory,
    beside 256 MiB of kept frames in each process that decodes."""
    validation_share: float = Field(0.05, ge=0, lt=1)
    """Share of the episodes held out, chosen by a hash of the episode's id."""
    workers: int = runtime(1, ge=0)
    """Decoding processes per rank; 0 decodes in the training process."""

    @model_validator(mode="after")
    def _workers_share_the_lanes(self) -> "StreamConfig":
        if self.workers and self.lanes % self.workers:
            raise ValueError(f"workers={self.workers} does not divide lanes={self.lanes}; choose a divisor")
        return self
