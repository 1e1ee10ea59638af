"""`lapactl probe` and `lapactl analyze`, down to the programs they start."""

import json
from pathlib import Path

import pytest

from lapa.analysis.probe_results import ProbeReport
from lapa.analysis.results import AnalysisResult
from lapactl import analyzing
from tests.analysis.models import MODEL, saved_model
from tests.builders import make_dataset


@pytest.fixture
def model(tmp_path: Path) -> str:
    return saved_model(tmp_path / "model", MODEL).url


def test_probe_prints_the_report_that_the_library_made(lapactl_json, tmp_path: Path, model: str) -> None:
    data = make_dataset(tmp_path / "data", episodes=6, frames=12, image_size=24)
    told = lapactl_json("probe", model, data, "--window", 0.3)
    report = ProbeReport.model_validate(told)
    assert report.dataset.url == data and report.windows == (3,) and report.score("codes") is not None


def test_probe_in_words_ends_with_verdicts(lapactl, tmp_path: Path, model: str) -> None:
    data = make_dataset(tmp_path / "data", episodes=6, frames=12, image_size=24)
    told = lapactl("probe", model, data, "--window", 0.3)
    assert told.exit_code == 0, told.stderr
    for words in ("R2 of true motion", "shuffled pairs", "Bits about the actions", "constant-code", "rough"):
        assert words in told.stdout


def test_a_model_whose_window_nobody_knows_asks_for_it(lapactl, tmp_path: Path, model: str) -> None:
    data = make_dataset(tmp_path / "data", episodes=6, frames=12, image_size=24)
    told = lapactl("probe", model, data)
    assert told.exit_code != 0 and "--window" in told.stderr


def test_analyze_writes_pictures_and_says_where(lapactl_json, tmp_path: Path, model: str) -> None:
    data = make_dataset(tmp_path / "data", episodes=6, frames=12, image_size=24)
    told = lapactl_json("analyze", "atlas", model, "--dataset", data, "--window", 0.3, "--folder", tmp_path / "out")
    found = AnalysisResult.model_validate(told)
    assert Path(found.folder).parent == tmp_path / "out"
    assert {path.name for path in Path(found.folder).iterdir()} == {
        "analysis.json", "atlas-data.png", "reconstruction-data.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (("all", "x", "--pairs", 100), {"max_pairs": 100}),
        (("across", "x"), {"kinds": ["across"], "probes": False, "max_pairs": 4000}),
        (
            ("scatter", "x", "--dimensions", "dx,dy", "--position", 1),
            {"kinds": ["scatter"], "probes": False, "max_pairs": 4000, "dimensions": ["dx", "dy"], "position": 1},
        ),
        (("instructions", "x"), {"kinds": ["instructions"], "probes": False, "max_pairs": 4000}),
        (("rollout", "x", "--episodes", 3), {"kinds": ["rollout"], "probes": False, "max_pairs": 500, "episodes": 3}),
    ],
)
def test_each_analysis_asks_for_itself_alone(lapactl, monkeypatch, words, settings) -> None:
    asked = []

    def answer(arguments, **_):
        asked.append(arguments)
        return {"media": [], "probes": {}, "folder": "somewhere", "skipped": {"across": "Only one dataset is known."}}

    monkeypatch.setattr(analyzing, "ask_library", answer)
    told = lapactl("analyze", *words)
    assert told.exit_code == 0 and "somewhere" in told.stdout and "Only one dataset" in told.stderr
    program, run, request = asked[0]
    assert (program, run) == ("analyze", "-")
    assert json.loads(request)["settings"] == settings
