"""The analyses' pictures and videos, as data URIs that fit into one page."""

import base64
import logging

from lapa import files
from lapa.analysis.results import AnalysisResult, read_analysis
from lapa.report.pictures import picture_uri
from lapa.report.summary import AnalysisSummary

logger = logging.getLogger(__name__)

MAX_VIDEO_BYTES = 800_000
"""Of all videos together; the others are shown by their posters."""
LEFT_OUT = ("instructions",)
"""Drawn from numbers, as a table."""


def with_media(result: AnalysisResult) -> AnalysisSummary:
    """The result with the files it names; one that is gone is left out."""
    shown = [item for item in result.media if item.kind not in LEFT_OUT]
    found: dict[str, str] = {}
    room = MAX_VIDEO_BYTES
    for file in dict.fromkeys(file for item in shown for file in (item.file, item.poster) if file is not None):
        url = files.join(result.folder, file)
        if not files.exists(url):
            logger.warning("analysis file=%s is gone; the report goes without it", url)
            continue
        data = files.read_bytes(url)
        if not file.endswith(".mp4"):
            found[file] = picture_uri(data)
        elif len(data) <= room:
            room -= len(data)
            found[file] = f"data:video/mp4;base64,{base64.b64encode(data).decode()}"
    return AnalysisSummary(result=result, media=found)


def find_analysis(work_url: str, model_digest: str) -> AnalysisResult | None:
    """The fullest finished analysis of a model in a work folder, the newest of those: someone may have looked at one
    picture alone after everything was made."""
    names = [name for name in files.list_names(work_url) if name.startswith("analysis-")]
    found = [result for name in names if (result := read_analysis(files.join(work_url, name))) is not None]
    mine = [result for result in found if result.model.digest == model_digest]
    return max(mine, key=lambda result: (len(result.probes), len(_kinds(result)), result.finished), default=None)


def _kinds(result: AnalysisResult) -> set[str]:
    return {item.kind for item in result.media}
