"""A dataset keeps its fingerprint when readers learn new formats: the settings of a source are pinned here."""

import pytest

from lapa.config.base import result_settings
from lapa.config.data import IngestConfig, LeRobotSource, RldsSource, SourceConfig, VideoFolderSource

SETTINGS = {
    "image_size": 256,
    "resize": "crop",
    "fps": None,
    "min_frames": 2,
    "episodes_per_shard": 256,
    "encoding": {"crf": 18, "keyframe_seconds": 1.0, "preset": "veryfast"},
}


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        (
            VideoFolderSource(url="u"),
            {"instructions": {"kind": "constant", "text": ""}, "embodiment": "unknown", "licence": "unknown"},
        ),
        (
            LeRobotSource(url="u"),
            {
                "camera": None,
                "action_column": "action",
                "proprioception_column": "observation.state",
                "instruction_column": None,
                "embodiment": None,
                "licence": "unknown",
            },
        ),
        (
            RldsSource(url="u", fps=5),
            {
                "fps": 5.0,
                "split": "train",
                "image_key": "image_0",
                "action_key": "action",
                "proprioception_key": "state",
                "instruction_key": "language_instruction",
                "embodiment": "unknown",
                "licence": "unknown",
            },
        ),
    ],
)
def test_the_settings_that_name_a_dataset_stay_as_they_were(source: SourceConfig, settings: dict):
    expected = {"kind": "ingest", "source": {"kind": source.kind, "url": "u"} | settings, **SETTINGS}
    assert repr(result_settings(IngestConfig(source=source))) == repr(expected)
