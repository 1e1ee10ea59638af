"""Everything an artifact was made from, back to the datasets, read off the folders of the stages. Needs no torch."""

import logging
from collections import Counter
from collections.abc import Mapping

from lapa.data.dataset import Dataset
from lapa.errors import DataError
from lapa.stages.results import Artifact, read_result

logger = logging.getLogger(__name__)

DATASET_ROLES = ("videos", "robot")
UNKNOWN_LICENCE = "unknown"


def everything_behind(inputs: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """What a stage was made from, and what that was made from, by path: `pretrain`, `pretrain/labels`, ….

    A stage whose folder is gone, or a model from elsewhere, ends its path.
    """
    found: dict[str, Artifact] = {}
    for role, artifact in sorted(inputs.items()):
        found[role] = artifact
        earlier = {} if role in DATASET_ROLES else everything_behind(inputs_behind(artifact.url))
        found |= {f"{role}/{path}": what for path, what in earlier.items()}
    return found


def inputs_behind(url: str) -> dict[str, Artifact]:
    """What the stage that left something at `url` was made from; a stage's outputs lie inside its folder."""
    try:
        result = read_result(url.rstrip("/").rpartition("/")[0])
    except (OSError, ValueError) as error:  # no right to look, or a file of another kind
        logger.warning("event=no-lineage url=%s why=%s", url, error)
        return {}
    return {} if result is None else dict(result.inputs)


def licences_of(artifacts: Mapping[str, Artifact]) -> dict[str, int]:
    """Episodes under each licence, over every dataset among the artifacts, each dataset once. One that cannot be read
    counts as an episode without a known licence: it must not make a policy look free."""
    datasets = {what.digest: what.url for path, what in artifacts.items() if path.split("/")[-1] in DATASET_ROLES}
    counts: Counter[str] = Counter()
    for url in datasets.values():
        try:
            counts.update(Dataset.open(url).info.licences)
        except (DataError, OSError) as error:
            logger.warning("event=no-licence url=%s why=%s", url, error)
            counts[UNKNOWN_LICENCE] += 1
    return dict(sorted(counts.items()))
