"""`--nodes 8`, and in a pipeline also `--nodes pretrain=8`."""

from collections.abc import Sequence
from typing import NamedTuple

from lapa.errors import ConfigError
from lapactl.selection import check_stages


class Nodes(NamedTuple):
    """How many machines."""

    of_all: int
    of_stages: dict[str, int]


def parse_nodes(words: Sequence[str], *, is_pipeline: bool) -> Nodes:
    """The last word wins. Raises ConfigError."""
    of_all, of_stages = 1, {}
    for word in words:
        stage, sign, number = word.rpartition("=")
        if not number.lstrip("-").isdigit():
            raise ConfigError(f"--nodes {word}: '{number}' is no number of machines; write --nodes 8")
        if not sign:
            of_all = int(number)
            continue
        if not is_pipeline:
            raise ConfigError(f"--nodes {word}: only `submit pipeline` has several stages; write --nodes {number}")
        check_stages([stage])
        of_stages[stage] = int(number)
    return Nodes(of_all, of_stages)
