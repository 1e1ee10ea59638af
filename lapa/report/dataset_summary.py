"""What the page of one dataset shows, gathered from its index, its report and some of its episodes."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fsspec.core import url_to_fs

from lapa import files
from lapa.config.conventions import Conventions
from lapa.data.dataset import REPORT_FILE, Dataset, DatasetInfo
from lapa.data.frames import episode_arrays, episode_frames
from lapa.data.ingest_report import IngestReport
from lapa.errors import LapaError
from lapa.report.histograms import Histogram
from lapa.report.pictures import picture_uri, strip_uri

logger = logging.getLogger(__name__)

SHEETS = 16
"""Episodes with pictures, spread evenly."""
STRIP = 6
"""Frames of each."""
INSTRUCTIONS = 40
EPISODES_MEASURED = 200
"""Of which action histograms are made, spread evenly."""
DIMENSIONS = 64
PROBLEMS = 20
PICTURES = 8
"""Of what was found wrong, for each kind."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One episode as a strip of frames."""

    uri: str
    episode: str
    instruction: str
    seconds: float
    tags: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Share:
    """Of a licence or an embodiment."""

    name: str
    episodes: int
    hours: float


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """One kind of thing that ingest found wrong."""

    kind: str
    tagged: int
    dropped: int
    split: int
    examples: Sequence[tuple[str, str, str]]
    """Picture as data URI, source, reason."""


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """Everything on the page."""

    url: str
    info: DatasetInfo
    hours: float
    sheets: Sequence[Sheet]
    instructions: Sequence[tuple[str, int]]
    histograms: Sequence[Histogram]
    action_histograms: Sequence[Histogram]
    measured: int
    """Episodes that action histograms come from."""
    licences: Sequence[Share]
    embodiments: Sequence[Share]
    wrong: Sequence[Wrong]
    is_examined: bool
    """Whether ingest looked for what is wrong."""
    problems: Sequence[tuple[str, str]]
    """Sources left out, and why; the first few."""
    num_problems: int

    @property
    def conventions(self) -> Conventions:
        return self.info.conventions


def gather_facts(dataset: Dataset) -> DatasetFacts:
    """Decodes a few episodes; one that is damaged goes without a picture."""
    index = dataset.index
    seconds = index["num_frames"].to_numpy() / index["fps"].to_numpy()
    motion = index["motion"].to_numpy(zero_copy_only=False).astype(np.float64)
    report = _report(dataset.url)
    problems = [] if report is None else [*report.failed, *report.skipped]
    counted = Counter(index["instruction"].to_pylist())
    rows = _spread(np.flatnonzero(index["has_actions"].to_numpy(zero_copy_only=False)), EPISODES_MEASURED)
    return DatasetFacts(
        url=dataset.url,
        info=dataset.info,
        hours=float(seconds.sum()) / 3600,
        sheets=[sheet for row in _spread(np.arange(len(dataset)), SHEETS) if (sheet := _sheet(dataset, row))],
        instructions=counted.most_common(INSTRUCTIONS),
        histograms=_histograms(seconds, index["fps"].to_numpy(), motion),
        action_histograms=_action_histograms(dataset, rows),
        measured=len(rows),
        licences=_shares(index["licence"].to_pylist(), seconds),
        embodiments=_shares(index["embodiment"].to_pylist(), seconds),
        wrong=_wrong(dataset.url, report),
        is_examined=bool(np.isfinite(motion).any()),
        problems=[(problem.source, problem.reason) for problem in problems[:PROBLEMS]],
        num_problems=0 if report is None else report.num_failed + report.num_skipped,
    )


def _spread(rows: np.ndarray, count: int) -> list[int]:
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
    return [int(row) for row in rows[places]] if len(rows) else []


def _sheet(dataset: Dataset, row: int) -> Sheet | None:
    columns = {
        name: dataset.index[name][row].as_py() for name in ("episode", "instruction", "num_frames", "fps", "tags")
    }
    try:
        frames = episode_frames(dataset, row)
    except LapaError as error:
        logger.warning("event=no-sheet episode=%s why=%s", columns["episode"], error)
        return None
    chosen = np.linspace(0, len(frames) - 1, STRIP).round().astype(int)
    return Sheet(
        uri=strip_uri([frames[t] for t in chosen]),
        episode=columns["episode"],
        instruction=columns["instruction"],
        seconds=columns["num_frames"] / columns["fps"],
        tags=columns["tags"] or (),
    )


def _histograms(seconds: np.ndarray, fps: np.ndarray, motion: np.ndarray) -> list[Histogram]:
    found = [
        Histogram(title="Length", values=seconds, x_name="seconds", counted="episodes"),
        Histogram(title="Frame rate", values=fps, x_name="frames per second", counted="episodes"),
    ]
    if np.isfinite(motion).any():
        note = "Mean change of a thumbnail from one frame to the next, of 255 levels of a colour."
        found.append(Histogram(title="Motion", values=motion, x_name="levels", counted="episodes", note=note))
    return found


def _action_histograms(dataset: Dataset, rows: Sequence[int]) -> list[Histogram]:
    parts = []
    for row in rows:
        try:
            parts.append(episode_arrays(dataset, row)["actions"])
        except (LapaError, KeyError) as error:
            logger.warning("event=no-actions row=%d why=%s", row, error)
    if not parts:
        return []
    values = np.concatenate(parts)
    names = dataset.info.action_names
    told = dataset.info.conventions.actions
    found = []
    for place in range(min(values.shape[1], DIMENSIONS)):
        name = names[place] if place < len(names) else str(place)
        unit = told[place].unit if place < len(told) and told[place].unit != "unknown" else "recorded values"
        found.append(Histogram(title=name, values=values[:, place], x_name=unit, counted="timesteps"))
    return found


def _shares(names: Sequence[str], seconds: np.ndarray) -> list[Share]:
    episodes, hours = Counter(names), Counter[str]()
    for name, length in zip(names, seconds.tolist(), strict=True):
        hours[name] += length / 3600
    return [Share(name=name, episodes=count, hours=hours[name]) for name, count in episodes.most_common()]


def _report(url: str) -> IngestReport | None:
    """None where there is none, as beside a dataset that something else wrote."""
    try:
        return IngestReport.model_validate(files.read_json(files.join(url, REPORT_FILE)))
    except (FileNotFoundError, ValueError):
        return None


def _wrong(url: str, report: IngestReport | None) -> list[Wrong]:
    found = []
    for kind, summary in ({} if report is None else report.quality).items():
        examples = [(_picture(url, note.picture), note.source, note.reason) for note in summary.examples[:PICTURES]]
        found.append(
            Wrong(kind=kind, tagged=summary.tagged, dropped=summary.dropped, split=summary.split, examples=examples)
        )
    return found


def _picture(url: str, name: str) -> str:
    """Empty where there is none."""
    fs, path = url_to_fs(files.join(url, name))
    return picture_uri(bytes(fs.cat_file(path)), "jpeg") if name and fs.exists(path) else ""
