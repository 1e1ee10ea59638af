"""`lapactl doctor`, `models`, `report` and `compare`."""

import json
import os
import stat

import pytest

from lapa.config.load import load_run
from lapa.errors import LapaError
from lapa.stages.report import main as write_report

ANSWER = {
    "packages": {"torch": "2.13.0", "av": "18", "mlflow": "3", "s3fs": "1", "deepspeed": None},
    "devices": [],
    "cpu": {"cores": 2, "torch_threads": 2, "capability": "AVX2", "gloo": True},
}


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """Stands in for the subprocess that loads torch."""
    monkeypatch.setattr("lapactl.checks.ask_library", lambda arguments, **_: ANSWER)


def statuses(checks):
    return {check["check"]: check["status"] for check in checks}


def test_a_healthy_machine_passes(lapactl_json, tmp_path):
    found = statuses(lapactl_json("doctor", "--work", tmp_path / "work"))
    assert "fail" not in found.values()
    assert found["work folder"] == "ok"
    assert found["packages"] == "warn"


def test_a_run_sized_for_gpus_warns_on_a_cpu(lapactl, tmp_path):
    result = lapactl("doctor", "lapa", "--work", tmp_path, "--output", "json")
    assert statuses(json.loads(result.stdout))["devices"] == "warn"


def test_a_missing_engine_fails_with_the_command_that_installs_it(lapactl, tmp_path):
    result = lapactl("doctor", "--work", tmp_path, "--set", "engine.kind=deepspeed")
    assert result.exit_code == 1
    assert "pip install deepspeed" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_fails(lapactl, tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert lapactl("doctor", "--work", tmp_path / "work").exit_code == 1


def test_a_tracking_server_that_is_away_fails_with_a_remedy(lapactl, tmp_path):
    result = lapactl("doctor", "--work", tmp_path, "--set", "tracking.uri=http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "MLFLOW_TRACKING_URI" in result.stderr


def test_sources_that_are_not_there_fail(lapactl, tmp_path):
    nowhere = [f"--set={role}.source.url={tmp_path / 'nowhere'}" for role in ("videos", "robot")]
    result = lapactl("doctor", "bridge-sample", "--work", tmp_path, "--output", "json", *nowhere)
    assert result.exit_code == 1
    assert statuses(json.loads(result.stdout))["videos data"] == "fail"


def test_a_check_that_breaks_down_and_a_bucket_that_stands_for_yours_are_verdicts(lapactl, tmp_path, monkeypatch):
    monkeypatch.setattr("lapactl.checks.shutil.disk_usage", lambda path: 1 / 0)
    found = json.loads(lapactl("doctor", "lapa", "--work", tmp_path, "--output", "json").stdout)
    told = {check["check"]: check for check in found}
    assert told["disk"]["found"] == "cannot be found out: division by zero (ZeroDivisionError)"
    assert "df -h" in told["disk"]["remedy"] and "S3" not in told["disk"]["remedy"]
    assert "BUCKET stands for yours" in told["videos data"]["found"] and "source.url" in told["videos data"]["remedy"]
    assert all(check["remedy"] for check in found if check["status"] != "ok")


def test_a_library_that_does_not_start_is_one_failed_check(lapactl, tmp_path, monkeypatch):
    def refuse(arguments, **_):
        raise LapaError("ModuleNotFoundError: No module named 'torch'")

    monkeypatch.setattr("lapactl.checks.ask_library", refuse)
    result = lapactl("doctor", "--work", tmp_path)
    assert result.exit_code == 1
    assert "No module named 'torch'" in result.stdout
    assert "make setup" in result.stderr


def test_a_description_is_a_table_or_json(lapactl, lapactl_json, monkeypatch):
    described = {"model": "M", "parameters": 343796080, "layers": [{"name": "a", "kind": "Linear", "parameters": 9}]}
    asked = []
    monkeypatch.setattr("lapactl.library.ask_library", lambda arguments, **_: asked.append(arguments) or described)
    assert lapactl_json("models", "describe", "tabletop", "--stage", "pretrain", "--set", "seed=1") == described
    assert asked == [["describe", "tabletop", "pretrain", "--set=seed=1"]]
    assert "343,796,080" in lapactl("models", "describe", "tabletop").stdout


def test_a_report_is_opened_where_it_is_a_file_and_else_is_to_be_copied(lapactl, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    for url in (str(tmp_path / "report.html"), "memory://bucket/report.html"):
        monkeypatch.setattr("lapactl.library.ask_library", lambda arguments, url=url, **_: {"report": url})
        result = lapactl("report", "--open")
        assert result.exit_code == 0
    assert opened == [(tmp_path / "report.html").as_uri()]
    assert "copy memory://bucket/report.html here" in result.stderr


def test_a_report_says_how_to_run_the_file_that_the_run_left(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_report(load_run("tabletop", ["work_url=mine"]))
    page = (tmp_path / "mine" / "report-tabletop.html").read_text()
    assert json.loads(capsys.readouterr().out) == {"report": "mine/report-tabletop.html"}
    assert "lapactl run mine/runs/tabletop.yaml" in page
    assert "run.yaml" not in page


def test_a_report_needs_a_folder_where_something_was_run(lapactl, tmp_path):
    result = lapactl("report", tmp_path)
    assert result.exit_code == 2
    assert "nothing was run there" in result.stderr


def test_compare_lays_runs_side_by_side_as_tables_json_or_the_page(lapactl, tmp_path):
    runs = ("tabletop", "tabletop-smoke", "--work", tmp_path)
    told = json.loads(lapactl("compare", *runs, "--output", "json").stdout)
    assert told["settings"]["laq.fit.steps"] == {"tabletop": "2000", "tabletop-smoke": "30"}
    table = lapactl("compare", *runs)
    assert "laq.fit.steps" in table.stdout and f"page: {tmp_path}" in table.stderr
    page = lapactl("compare", *runs, "--output", "html").stdout
    assert page.startswith("<!DOCTYPE html>") and "tabletop-smoke" in page


def test_compare_needs_two_runs(lapactl):
    result = lapactl("compare", "tabletop")
    assert result.exit_code == 2
    assert "one run (tabletop) has nothing to be compared with; name another one" in result.stderr
