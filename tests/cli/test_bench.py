"""`lapactl bench`: what is asked for, what would be made, one study at a time."""

import os

import pytest

from lapa.errors import ConfigError
from lapactl import alone
from lapactl.bench_run import one_study
from lapactl.output import Output, OutputFormat


def test_a_dry_run_counts_shared_stages_once_and_starts_nothing(lapactl_json, tmp_path):
    words = ("bench", "tabletop", "--size", "tiny", "--seeds", 2, "--work", tmp_path / "work", "--dry-run")
    planned = lapactl_json(*words, "--method", "lapa", "--method", "scratch", "--setting", "in-domain",
                           "--setting", "cross-environment")  # fmt: skip
    assert planned["stages"] == {"ingest": 4, "laq": 2, "label": 2, "pretrain": 2, "finetune": 8, "evaluate": 8}
    assert len(planned["runs"]) == 8
    assert not (tmp_path / "work").exists()


def test_ablations_come_beside_lapa_in_domain_and_are_no_part_of_the_study_itself(lapactl_json):
    words = ("bench", "tabletop", "--size", "tiny", "--dry-run")
    asked = [run["name"] for run in lapactl_json(*words, "--ablations")["runs"]]
    assert {"in-domain.lapa.0", "in-domain.scratch.0", "in-domain.fsq.0", "in-domain.latent-loss.0"} < set(asked)
    assert all(name.startswith("in-domain.") for name in asked)
    some = [run["name"] for run in lapactl_json(*words, "--ablations", "--method", "lapa")["runs"]]
    assert "in-domain.lapa.0" in some and "in-domain.scratch.0" not in some
    assert not [run for run in lapactl_json(*words)["runs"] if ".fsq." in run["name"]]


def test_stages_are_not_tracked_unless_asked(lapactl_json):
    words = ("bench", "tabletop", "--size", "tiny", "--method", "scratch", "--setting", "in-domain", "--dry-run")
    assert [run["tracking"]["enabled"] for run in lapactl_json(*words)["runs"]] == [False]
    assert [run["tracking"]["enabled"] for run in lapactl_json(*words, "--track")["runs"]] == [True]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--setting", "moon"), "'moon' is not a setting of the benchmark"),
        (("--method", "magic"), "'magic' is not a method of the benchmark"),
        (("--size", "gigantic"), "'gigantic' is not a size of the benchmark"),
        (("--set", "laq.fit.stepz=3"), "laq.fit.stepz: unknown key. Did you mean 'steps'?"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(lapactl, words, said):
    result = lapactl("bench", "tabletop", *words, "--dry-run")
    assert result.exit_code == 2
    assert said in result.stderr


def test_two_studies_do_not_work_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(alone, "LOCK_SECONDS", 0.0)
    out = Output(OutputFormat.TEXT)
    with (
        one_study(str(tmp_path), out),
        pytest.raises(ConfigError, match="another study works in"),
        one_study(str(tmp_path), out),
    ):
        pass
    with one_study(str(tmp_path), out) as lock:
        assert os.fstat(lock)
