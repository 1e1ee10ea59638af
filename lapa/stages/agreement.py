"""Whether everything a run brings together means the same by the same numbers, asked before anything trains.

Each mismatch is one sentence with its remedy. What a dataset does not say is compared with nothing. Needs no torch.
"""

import logging
from collections.abc import Mapping

from lapa.config.conventions import Conventions, difference, known_actions
from lapa.config.licences import licence_problem
from lapa.config.run import RunConfig
from lapa.data.dataset import Dataset
from lapa.data.mixture import action_clash
from lapa.errors import ConventionMismatch, DataError, DatasetNotFound, LicenceForbids
from lapa.stages.plan import dataset_url, datasets_of, labels_robot

logger = logging.getLogger(__name__)


def check_agreement(run: RunConfig, datasets: Mapping[str, Dataset] | None = None) -> None:
    """Over the datasets of the run that are there already, or over `datasets`, by role.

    Raises LicenceForbids for a dataset that the run's `use` must not have, ConventionMismatch for what contradicts.
    """
    opened = _opened(run) if datasets is None else datasets
    _check_licences(run, opened)
    _check_mixtures(run, opened)
    if "videos" in opened and "robot" in opened:
        _check_both(run, opened["videos"], opened["robot"])


def conventions_of(dataset: Dataset) -> Conventions:
    """With the names of the actions, where nothing else is known of them."""
    info = dataset.info
    return info.conventions.model_copy(update={"actions": known_actions(info.conventions, info.action_names)})


def _opened(run: RunConfig) -> dict[str, Dataset]:
    found = {}
    for role, config in datasets_of(run).items():
        try:
            found[role] = Dataset.open(dataset_url(run, config))
        except DatasetNotFound:  # stage ingest makes it
            continue
        except (DataError, OSError) as error:  # where a stage needs it, that stage says what is wrong
            logger.warning("event=conventions-unchecked role=%s why=%s", role, error)
    return found


def _members(role: str, dataset: Dataset) -> dict[str, Dataset]:
    """By the names that messages use."""
    members = dataset.info.members
    return {member.name: Dataset.open(member.url) for member in members} if members else {role: dataset}


def _check_licences(run: RunConfig, opened: Mapping[str, Dataset]) -> None:
    if run.use != "commercial":
        return
    licences = {
        f"'{name}' ({dataset.url})": list(dataset.info.licences)
        for role, whole in opened.items()
        for name, dataset in _members(role, whole).items()
    }
    problem = licence_problem(run.use, licences, run.allowed_licences)
    if problem is not None:
        raise LicenceForbids(problem)


def _check_mixtures(run: RunConfig, opened: Mapping[str, Dataset]) -> None:
    """Frames and codes mix whatever the robots; actions must mean one thing."""
    learners = {
        "videos": "pretrain.target.kind=recorded-actions"
        if run.pretrain and run.pretrain.target.kind == "recorded-actions"
        else "laq.supervision"
        if run.laq.supervision
        else None,
        "robot": "finetune" if run.finetune else None,
    }
    for role, learner in learners.items():
        if learner is None or role not in opened or not opened[role].info.members:
            continue
        clash = action_clash(_members(role, opened[role]))
        if clash is not None:
            raise ConventionMismatch(
                f"{learner} learns the actions of the mixture '{role}', and {clash}: leave one of them out, correct "
                "its `conventions`, or ingest it with actions like the other's"
            )


def _check_both(run: RunConfig, videos: Dataset, robot: Dataset) -> None:
    if run.finetune and run.finetune.keep_head and run.pretrain and run.pretrain.target.kind == "recorded-actions":
        found = difference(conventions_of(videos).actions, conventions_of(robot).actions, here="videos", there="robot")
        if found is not None:
            raise ConventionMismatch(
                f"finetune.keep_head goes on with the action head that was trained on videos, and {found}: set "
                "finetune.keep_head=false for a new head, or bring the datasets to the same actions"
            )
    shared = "finetune.latent_loss_weight" if labels_robot(run) else "laq.gate" if run.laq.gate else None
    if shared is not None and videos.info.resize != robot.info.resize:
        raise ConventionMismatch(
            f"{shared} has the latent-action model name changes in robot's frames, which are made square by "
            f"'{robot.info.resize}', while videos' are by '{videos.info.resize}': set the same resize for both"
        )
