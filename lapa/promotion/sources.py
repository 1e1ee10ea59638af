"""What can be exported: the finished finetune folders of a work folder, and words for whoever named none of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lapa import files
from lapa.stages.results import StageResult, read_result

SHOWN = 5
"""Folders that a message names."""


@dataclass(frozen=True, kw_only=True)
class FinishedPolicy:
    """A finetune folder that holds a policy."""

    folder: str
    """Where it lies now: a work folder may have been moved since its result was written."""
    result: StageResult


def finished_policies(work_url: str) -> list[FinishedPolicy]:
    """The finished finetune folders directly inside a work folder, newest first; damaged ones are left out."""
    found = []
    for name in files.list_names(work_url):
        folder = files.join(work_url, name)
        result = _result_of(folder) if name.startswith("finetune-") else None
        if result is not None and "policy" in result.outputs:
            found.append(FinishedPolicy(folder=folder, result=result))
    return _newest_first(found)


def suggest_policies(source: str, work_url: str | None) -> str:
    """What could have been meant, from the folder that `source` would lie in and from the run's work folder."""
    parent = source.rstrip("/").rpartition("/")[0]
    places = list(dict.fromkeys(place.rstrip("/") for place in (parent, work_url) if place))
    found: dict[str, FinishedPolicy] = {}
    unread = []
    for place in places:
        try:
            found |= {item.folder: item for item in finished_policies(place)}
        except Exception as error:  # of any store's own kind; what was asked for is the error to tell
            unread.append(f"{place} could not be looked into: {error}")
    return "\n".join([_listed(_newest_first(found.values()), places), *unread])


def _listed(found: Sequence[FinishedPolicy], places: Sequence[str]) -> str:
    if not found:
        where = f"in {' or '.join(places)}" if places else "here"
        return f"No finished finetune folder lies {where}: make one with `lapactl run`, or say where with --work."
    lines = [f"  {item.folder}  of run '{item.result.name}', finished {item.result.finished}" for item in found[:SHOWN]]
    more = [f"  … and {len(found) - SHOWN} older"] if len(found) > SHOWN else []
    return "\n".join(["Finished finetune folders, newest first:", *lines, *more])


def _newest_first(found: Iterable[FinishedPolicy]) -> list[FinishedPolicy]:
    return sorted(found, key=lambda item: item.result.finished, reverse=True)


def _result_of(folder: str) -> StageResult | None:
    try:
        return read_result(folder)
    except (ValueError, FileNotFoundError):  # pydantic's errors are ValueErrors
        return None
