"""`lapactl data mix`: what training will see of each dataset, before it begins."""

import pytest

from lapa.config.data import ExistingDataset, MixtureConfig, MixturePart
from lapa.config.load import load_run
from lapa.data.mixture import mix
from lapa.stages.plan import dataset_url
from lapactl.mixing import open_mixture
from tests.builders import make_dataset


@pytest.fixture
def urls(tmp_path):
    robots = make_dataset(tmp_path / "robots", episodes=6, frames=30, licence="CC-BY-4.0")
    return {"robots": robots, "hands": make_dataset(tmp_path / "hands", episodes=3, frames=30, fps=5.0, actions=False)}


def settings(urls, tmp_path):
    run = f"preset: tabletop-smoke\nname: mixed\nwork_url: {tmp_path / 'work'}\nvideos:\n  kind: mixture\n  datasets:\n"
    for name, url in urls.items():
        run += f"    {name}: {{dataset: {{kind: dataset, url: {url}}}, weight: {3 if name == 'hands' else 1}}}\n"
    path = tmp_path / "run.yaml"
    path.write_text(run)
    return path


def test_a_run_tells_shares_and_epochs_of_every_dataset_and_stage(lapactl_json, urls, tmp_path):
    overrides = ["laq.window_seconds=0.4", "laq.fit.steps=10", "laq.fit.batch_size=16", "laq.stream.validation_share=0"]
    words = [word for override in overrides for word in ("--set", override)]
    found = lapactl_json("data", "mix", settings(urls, tmp_path), *words)
    hands, robots = found["datasets"]
    assert (hands["dataset"], hands["share"], robots["share"]) == ("hands", 0.75, 0.25)
    assert (hands["samples"], robots["samples"]) == (3 * 28, 6 * 26)
    assert hands["epochs"]["laq"] == pytest.approx(0.75 * 160 / 84)
    assert robots["actions"]["q99"] and hands["actions"] is None
    assert set(robots["epochs"]) == {"laq", "pretrain"}


def test_text_warns_of_what_is_seen_too_often(lapactl, urls, tmp_path):
    result = lapactl("data", "mix", settings(urls, tmp_path), "--set", "laq.fit.steps=2000")
    assert result.exit_code == 0
    assert "CC-BY-4.0" in result.stdout
    assert "laq sees hands" in result.stderr
    assert "clips that two datasets share are found by `lapactl run ingest`" in " ".join(result.output.split())


def test_a_mixture_is_shown_by_its_url(lapactl_json, urls, tmp_path):
    parts = {name: MixturePart(dataset=ExistingDataset(url=url)) for name, url in urls.items()}
    mix(MixtureConfig(datasets=parts), urls, str(tmp_path / "mixture"))
    found = lapactl_json("data", "mix", tmp_path / "mixture", "--samples", 1000)
    assert [row["dataset"] for row in found["datasets"]] == ["hands", "robots"]
    assert sum(row["drawn"]["training"] for row in found["datasets"]) == pytest.approx(1000)


def test_what_two_datasets_share_is_split_as_the_run_will_split_it(urls, tmp_path):
    path = settings(urls, tmp_path)
    run = load_run(str(path))
    asked = {"samples": None, "window_seconds": 0.5, "validation_share": 0.1}
    assert open_mixture(str(path), "videos", [], **asked).lacks_twins
    twins = {"robots/episode-0001": "hands/episode-0002"}
    made = mix(run.videos, urls, dataset_url(run, run.videos), twins=twins)
    found = open_mixture(str(path), "videos", [], **asked)
    assert (found.dataset.info.twins, found.dataset.revision, found.lacks_twins) == (twins, made.revision, False)


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [("nowhere", 3, "holds no dataset.json"), ("tabletop-smoke", 3, "make it first: lapactl run ingest")],
)
def test_what_is_not_there_yet_is_named_with_what_makes_it(lapactl, tmp_path, source, code, said):
    result = lapactl("data", "mix", source, "--set", f"work_url={tmp_path}")
    assert result.exit_code == code
    assert said in result.stderr


@pytest.mark.parametrize("option", ["samples", "window-seconds", "validation-share"])
def test_what_a_run_s_own_settings_say_is_refused_beside_a_run(lapactl, option):
    result = lapactl("data", "mix", "tabletop-smoke", f"--{option}", 0.5 if option != "samples" else 5)
    assert result.exit_code == 2
    assert f"--{option} is for the URL of a mixture" in result.stderr and "--set" in result.stderr
