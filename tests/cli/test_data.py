"""`lapactl data`."""

import json

import pytest

from lapa.data.dataset import Dataset
from lapa.data.video import probe
from lapactl.ingesting import detect_kind, ingest_settings, remark_on
from tests.builders import make_dataset
from tests.data.sources import write_clips


def test_the_kind_of_a_source_is_seen_by_its_own_files(tmp_path):
    own = {"lerobot": "meta/info.json", "rlds": "features.json", "webdataset": "shard-000000.tar", "hdf5": "bowl.hdf5"}
    for name, file in (own | {"videos": "clip.mp4"}).items():
        path = tmp_path / name / file
        path.parent.mkdir(parents=True)
        path.touch()
        assert detect_kind(str(tmp_path / name)) == name


def test_nothing_at_the_source_is_a_data_error(lapactl, tmp_path):
    result = lapactl("data", "ingest", tmp_path / "nowhere", tmp_path / "out")
    assert result.exit_code == 3
    assert "nothing at" in result.stderr


def test_settings_reach_the_ingest(tmp_path):
    overrides = ["image_size=64", "source.instructions.kind=file-name"]
    settings = ingest_settings(str(tmp_path), kind="videos", fps=5, workers=2, overrides=overrides)
    assert (settings.image_size, settings.fps, settings.workers) == (64, 5, 2)
    assert settings.source.instructions.kind == "file-name"


def test_a_layout_that_was_not_tried_on_its_own_files_is_remarked_on(tmp_path):
    def remark(name: str) -> str | None:
        settings = {"kind": "rlds", "fps": None, "workers": None, "overrides": [f"source.openx={name}"]}
        return remark_on(ingest_settings(str(tmp_path), **settings))

    assert remark("bridge_dataset") is None
    assert "layout of kuka is compiled" in remark("kuka")


def test_a_frame_rate_belongs_to_an_rlds_source(tmp_path):
    settings = ingest_settings(str(tmp_path), kind="rlds", fps=5, workers=None, overrides=[])
    assert (settings.source.fps, settings.fps) == (5, None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--kind", "rlds"), "--fps"),
        (("--set", "image_sise=64"), "image_size"),
        (("--set", "source.kind=vidoes"), "videos"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_remedy(lapactl, tmp_path, words, said):
    result = lapactl("data", "ingest", tmp_path, tmp_path / "out", *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_finished_dataset_is_not_lost_to_another_source(lapactl, tmp_path):
    mine, other, out = write_clips(tmp_path / "mine", 1), write_clips(tmp_path / "other", 2), tmp_path / "dataset"
    words = ("--workers", "1", "--set", "image_size=32")
    assert lapactl("data", "ingest", mine, out, *words).exit_code == 0
    assert lapactl("data", "ingest", mine, out, *words).exit_code == 0, "the same again does nothing"
    for source, settings in ((other, words), (mine, ("--workers", "1", "--set", "image_size=64"))):
        refused = lapactl("data", "ingest", source, out, *settings)
        assert refused.exit_code == 2 and "--replace" in refused.stderr
    assert len(Dataset.open(str(out))) == 1
    declared = (*words, "--set", "conventions.control_hz=10")
    assert lapactl("data", "ingest", mine, out, *declared).exit_code == 0, "what the numbers mean may be corrected"
    assert lapactl("data", "ingest", other, out, *words, "--replace").exit_code == 0
    assert len(Dataset.open(str(out))) == 2


def test_show_tells_what_a_dataset_holds(lapactl, lapactl_json, tmp_path):
    dataset = Dataset.open(make_dataset(tmp_path / "dataset"))
    shown = lapactl_json("data", "show", dataset.url)
    assert shown["episodes"] == len(dataset)
    assert shown["revision"] == dataset.revision
    text = lapactl("data", "show", dataset.url, "--episodes", "1").stdout
    assert dataset.index["episode"][0].as_py() in text
    assert dataset.revision in text


def test_show_writes_a_page_and_play_a_video(lapactl, lapactl_json, tmp_path, monkeypatch):
    url = make_dataset(tmp_path / "dataset")
    shown = lapactl_json("data", "show", url, "--html", "--to", tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size == shown["bytes"] > 10_000
    monkeypatch.chdir(tmp_path)
    assert lapactl_json("data", "show", url, "--html")["page"] == "dataset.html"
    assert (tmp_path / "dataset.html").read_bytes() == (tmp_path / "page.html").read_bytes()
    assert "--to is where --html writes" in lapactl("data", "show", url, "--to", "page.html").stderr
    assert "give one of them" in lapactl("data", "show", url, "--html", "--episodes", "1").stderr
    played = lapactl_json("data", "play", url, "0", "--to", tmp_path / "episode.mp4")
    assert probe(tmp_path / "episode.mp4").num_frames == played["num_frames"]


def test_show_says_where_no_dataset_is(lapactl, tmp_path):
    result = lapactl("data", "show", tmp_path)
    assert result.exit_code == 3
    assert "dataset.json" in result.stderr


def test_show_counts_the_episodes_of_each_embodiment(lapactl, tmp_path):
    """A mapping is not nothing."""
    dataset = Dataset.open(make_dataset(tmp_path / "dataset"))
    ((embodiment, episodes),) = dataset.info.embodiments.items()
    assert f"{embodiment} {episodes}" in lapactl("data", "show", dataset.url).stdout


def test_a_dataset_is_converted_and_what_is_lost_is_told(lapactl, tmp_path):
    url = make_dataset(tmp_path / "dataset")
    result = lapactl("data", "convert", url, tmp_path / "out", "--to", "lerobot-v3", "--output", "json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["episodes"] == len(Dataset.open(url))
    assert "lerobot-v3 does not keep" in result.stderr
    assert detect_kind(str(tmp_path / "out")) == "lerobot"


def test_what_is_neither_dataset_nor_run_is_not_converted(lapactl, tmp_path):
    result = lapactl("data", "convert", tmp_path / "nowhere", tmp_path / "out", "--to", "webdataset")
    assert result.exit_code == 3
    assert "is no run" in result.stderr
