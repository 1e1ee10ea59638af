"""The analyses' pictures and videos, as data URIs that fit into one page."""

import base64
import logging

from lapa import files
from lapa.analysis.results import AnalysisResult, read_analysis
from lapa.report.pictures import picture_uri
from lapa.report.summary import AnalysisSummary

logger = logging.getLogger(__name__)

MAX_VIDEO_BYTES = 400_000
"""A larger video is shown by its poster."""


def with_media(result: AnalysisResult) -> AnalysisSummary:
    """The result with the files it names; one that is gone is left out."""
    found: dict[str, str] = {}
    for item in result.media:
        for file in (item.file, item.poster):
            if file is not None and (uri := _data_uri(files.join(result.folder, file))) is not None:
                found[file] = uri
    return AnalysisSummary(result=result, media=found)


def find_analysis(work_url: str, model_digest: str) -> AnalysisResult | None:
    """The newest finished analysis of a model in a work folder."""
    names = [name for name in files.list_names(work_url) if name.startswith("analysis-")]
    found = [result for name in names if (result := read_analysis(files.join(work_url, name))) is not None]
    mine = [result for result in found if result.model.digest == model_digest]
    return max(mine, key=lambda result: result.finished, default=None)


def _data_uri(url: str) -> str | None:
    if not files.exists(url):
        logger.warning("analysis file=%s is gone; the report goes without it", url)
        return None
    data = files.read_bytes(url)
    if not url.endswith(".mp4"):
        return picture_uri(data)
    if len(data) > MAX_VIDEO_BYTES:
        logger.warning("analysis video=%s has %d bytes; the report shows its poster", url, len(data))
        return None
    return f"data:video/mp4;base64,{base64.b64encode(data).decode()}"
