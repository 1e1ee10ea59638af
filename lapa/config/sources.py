"""Foreign formats beyond video folders, LeRobot and RLDS."""

from typing import Literal

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
