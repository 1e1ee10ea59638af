"""From a source's settings to its reader."""

from typing import assert_never

from lapa.config.data import (
    LeRobotSource,
    MetaWorldSource,
    RldsSource,
    SourceConfig,
    TabletopSource,
    VideoFolderSource,
)
from lapa.config.sources import (
    Hdf5Source,
    LapaJsonSource,
    NarratedVideosSource,
    SomethingSomethingSource,
    WebDatasetSource,
)
from lapa.data.readers.base import SourceReader
from lapa.data.readers.hdf5 import Hdf5Reader
from lapa.data.readers.lapa_json import LapaJsonReader
from lapa.data.readers.lerobot import LeRobotReader
from lapa.data.readers.narrated import NarratedVideosReader
from lapa.data.readers.rlds import RldsReader
from lapa.data.readers.something import SomethingSomethingReader
from lapa.data.readers.videos import VideoFolderReader
from lapa.data.readers.webdataset import WebDatasetReader
from lapa.errors import ConfigError


def build_reader(config: SourceConfig) -> SourceReader:
    match config:
        case VideoFolderSource():
            return VideoFolderReader(config)
        case LeRobotSource():
            return LeRobotReader(config)
        case RldsSource():
            return RldsReader(config)
        case WebDatasetSource():
            return WebDatasetReader(config)
        case Hdf5Source():
            return Hdf5Reader(config)
        case LapaJsonSource():
            return LapaJsonReader(config)
        case SomethingSomethingSource():
            return SomethingSomethingReader(config)
        case NarratedVideosSource():
            return NarratedVideosReader(config)
        case TabletopSource() | MetaWorldSource():
            raise ConfigError(
                f"a {config.kind} source is a simulation, not files. Record it first (the ingest stage does), then "
                "ingest the recordings as kind=videos or kind=lerobot."
            )
        case _:
            assert_never(config)
