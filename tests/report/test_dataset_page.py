"""The page of one dataset says what is in it, what its numbers mean and what is wrong with it."""

from pathlib import Path

import numpy as np
import pytest

from lapa.config.data import IngestConfig, LeRobotSource, VideoFolderSource
from lapa.data.dataset import Dataset
from lapa.data.ingest import ingest
from lapa.report.dataset_page import build_dataset_page
from lapa.report.histograms import Histogram, draw_histogram
from tests.builders import make_dataset
from tests.data.sources import moving_square, write_lerobot, write_video
from tests.report.browser import open_page


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Dataset:
    """Videos of which one is black, one repeated and one cut short."""
    folder = tmp_path_factory.mktemp("faulty")
    write_video(folder / "v" / "fine <b>.mp4", moving_square(12))
    write_video(folder / "v" / "fine_again.mkv", moving_square(12))
    write_video(folder / "v" / "night.mp4", np.full((12, 48, 64, 3), 2, np.uint8))
    (folder / "v" / "broken.mp4").write_bytes(b"no video")
    source = VideoFolderSource(url=str(folder / "v"), licence="CC-BY-4.0")
    ingest(IngestConfig(source=source, image_size=48, workers=1, max_failed_share=0.5), str(folder / "out"))
    return Dataset.open(str(folder / "out"))


def test_what_is_wrong_is_shown_with_pictures_and_reasons(faulty):
    page = build_dataset_page(faulty)
    assert "100% of its frames are black" in page and "its pictures are those of fine &lt;b&gt;.mp4" in page
    assert "broken.mp4 cannot be opened as a video" in page
    assert "<td>CC-BY-4.0</td>" in page
    assert page.count("data:image/jpeg") == 3 + 2  # a strip for each episode, a picture for each finding
    assert "<b>.mp4" not in page.replace("</b>", "")


def test_actions_have_a_histogram_for_each_dimension(tmp_path):
    source = LeRobotSource(url=str(write_lerobot(tmp_path / "robot", [6, 8])))
    ingest(IngestConfig(source=source, image_size=32, workers=1), str(tmp_path / "out"))
    page = build_dataset_page(Dataset.open(str(tmp_path / "out")))
    for name in ("joint_0", "joint_1", "joint_2"):
        assert f"<figcaption>{name}<" in page
    assert "move to spot 1" in page


def test_a_dataset_that_nobody_examined_is_not_said_to_be_fine(tmp_path):
    page = build_dataset_page(Dataset.open(make_dataset(tmp_path / "dataset")))
    assert "Nobody has looked" in page and "Nothing was found" not in page


@pytest.mark.parametrize(
    ("values", "bars"), [([5.0] * 3, 1), ([1.0, 2.0, 2.0], 2), (list(np.linspace(0, 1, 500)), 24), ([np.nan], 0)]
)
def test_bars_are_as_many_as_the_values_need(values, bars):
    drawn = draw_histogram(Histogram(title="t", values=np.array(values), x_name="x", counted="episodes"))
    assert drawn.count('class="bar"') == bars


def test_the_largest_value_is_in_the_last_bar():
    """A sixtieth of 1000 is above what 24 even steps from 5 add up to."""
    values = np.array([5.0, 5.0, 1000 / 60])
    drawn = draw_histogram(Histogram(title="t", values=values, x_name="fps", counted="episodes"))
    assert drawn.count('class="bar"') == 2


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window_and_asks_for_nothing(faulty, tmp_path: Path, width: int):
    page = tmp_path / "page" / "dataset.html"
    page.parent.mkdir()
    page.write_text(build_dataset_page(faulty))
    seen = open_page(page, width=width)
    assert seen.width <= width
    assert seen.console == [] and seen.broken == 0 and seen.pictures == 5
    assert set(seen.requested) <= {"/probe.html", f"/{page.name}", "/favicon.ico"}
