"""`lapactl data show --html`: a dataset as one page for people."""

from typing import TYPE_CHECKING

from lapactl.output import Output

if TYPE_CHECKING:
    from lapa.data.dataset import Dataset


def write_page(out: Output, dataset: "Dataset", target: str | None) -> None:
    """Write the page to a file of this machine or of a store; to the current folder, by the dataset's name, when
    nobody says where."""
    from lapa import files
    from lapa.report.dataset_page import build_dataset_page

    url = f"{files.name_of(dataset.url.rstrip('/'))}.html" if target is None else target
    page = build_dataset_page(dataset).encode()
    files.write_bytes(url, page)
    out.record({"dataset": dataset.url, "page": url, "bytes": len(page)})
