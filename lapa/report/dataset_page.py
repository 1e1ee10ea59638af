"""One self-contained page for a dataset: what is in it, what its numbers are, and what is wrong with it."""

from lapa.data.dataset import Dataset
from lapa.data.ingest_report import NAMED
from lapa.report.dataset_summary import gather_facts
from lapa.report.histograms import draw_histogram
from lapa.report.page import environment


def build_dataset_page(dataset: Dataset) -> str:
    """The page. Everything that came from data is escaped."""
    facts = gather_facts(dataset)
    return environment().get_template("dataset.html.j2").render(
        facts=facts,
        info=facts.info,
        named=NAMED,
        name=dataset.url.rstrip("/").rpartition("/")[2],
        charts=[draw_histogram(histogram) for histogram in facts.histograms],
        action_charts=[draw_histogram(histogram) for histogram in facts.action_histograms],
    )  # fmt: skip
