"""`lapactl run`: what is planned, skipped, restarted, reported. Stages are stood in for by tiny programs."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from lapa.config.load import load_run
from lapa.config.stages import STAGES
from lapa.stages.plan import plan
from lapa.stages.plan import run_file as run_file_of
from lapactl.chain import command_of, prepare
from tests.builders import make_dataset

RUN = {
    "name": "tiny",
    "videos": {"kind": "ingest", "source": {"kind": "videos", "url": "clips"}},
    "pretrain": None,
    "finetune": None,
    "evaluate": None,
}

STAND_IN = """
import json, os, pathlib, sys
from lapa import files
from lapa.config.load import load_run
from lapa.stages.plan import fingerprint, stage_folder
from lapa.stages.results import Artifact, StageResult, write_result
stage, path = sys.argv[-2:]
run = load_run(path)
folder = stage_folder(run, stage)
with open(os.environ["LAPA_PROGRESS_FILE"], "a") as file:
    file.write(json.dumps({"stage": stage, "phase": "work", "step": 5, "steps": 10, "rate": 2.5}) + "\\n")
BODY
write_result(StageResult(stage=stage, name=run.name, fingerprint=fingerprint(run, stage), folder=folder, inputs={},
    outputs={name: Artifact(url=files.join(run.work_url, name), digest="d") for name in ("videos", "model", "labels")},
    metrics={"success_rate": 0.5}, messages=("all is well",), seconds=61.0))
"""


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**RUN, "work_url": str(tmp_path / "work")}))
    return path


@pytest.fixture
def stage_program(monkeypatch):
    """`stage_program(code)`: what every stage does before it writes its result."""

    def stand_in(code: str = "") -> None:
        program = STAND_IN.replace("BODY", code)
        monkeypatch.setattr(
            "lapactl.chain.command_of",
            lambda run, planned, *, nproc, file: [sys.executable, "-c", program, planned.stage, str(file)],
        )

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    return stand_in


def test_a_dry_run_prints_a_run_that_can_be_run_and_starts_nothing(lapactl, run_file, tmp_path):
    result = lapactl("run", run_file, "--dry-run")
    assert result.exit_code == 0
    again = tmp_path / "again.yaml"
    again.write_text(result.stdout)
    assert load_run(str(again)) == load_run(str(run_file))
    commands = [line for line in result.stdout.splitlines() if line.startswith("# ")]
    assert [line.split()[-2] for line in commands] == ["ingest", "laq", "label"]
    assert not (tmp_path / "work").exists()


def test_a_dry_run_lists_every_stage_of_the_run_and_its_baselines(lapactl_json):
    planned = [(item["stage"], item["name"]) for item in lapactl_json("run", "tabletop", "--dry-run")["stages"]]
    assert [stage for stage, name in planned if name == "tabletop"] == list(STAGES)
    assert ("finetune", "scratch") in planned
    assert ("ingest", "scratch") not in planned


@pytest.mark.parametrize(
    "words", [("laq", "--config", "tabletop"), ("tabletop", "--stage", "laq"), ("laq",)], ids=" ".join
)
def test_one_stage_can_be_named_in_three_ways(lapactl_json, words):
    planned = lapactl_json("run", *words, "--dry-run")["stages"]
    assert {item["stage"] for item in planned} == {"laq"}


def test_several_processes_start_training_stages_under_torchrun(lapactl_json):
    settings = ("--set", "engine.kind=deepspeed", "--nproc", 2)
    planned = lapactl_json("run", "tabletop", *settings, "--dry-run")["stages"]
    launched = {item["stage"] for item in planned if "lapa.launch" in item["command"]}
    assert launched == {"laq", "label", "pretrain", "finetune"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tabletop", "--stage", "lag"), "'lag' is not a stage; valid: ingest, laq"),
        (("tabletop", "--force", "everything"), "'everything' is not a stage"),
        (("laq", "--stage", "label"), "give one of them"),
        (("lapa", "--config", "tabletop"), "give one of them"),
        (("tabletop", "--nproc", "2"), "--set engine.kind=deepspeed"),
        (("tabletop", "--set", "finetune=null", "--set", "baselines={}", "--stage", "finetune"), "no stage 'finetune'"),
        (("tabletop", "--set", "laq"), "key.path=value"),
    ],
)
def test_contradictions_are_refused_with_the_remedy(lapactl, words, said):
    result = lapactl("run", *words, "--dry-run")
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_a_finished_stage_is_skipped_and_force_makes_it_again(lapactl_json, run_file, stage_program, tmp_path):
    use_existing_dataset(run_file, tmp_path)
    stage_program(f"open({str(tmp_path / 'starts')!r}, 'a').write('x')")
    command = ("run", run_file, "--stage", "ingest")
    assert skipped(lapactl_json(*command)) == [False]
    assert skipped(lapactl_json(*command)) == [True]
    assert skipped(lapactl_json(*command, "--force", "ingest")) == [False]
    assert (tmp_path / "starts").read_text() == "xx"


def test_files_that_others_may_change_are_looked_at_again_and_count_as_skipped_when_they_did_not(
    lapactl, run_file, stage_program, tmp_path
):
    stage_program(f"""
open({str(tmp_path / "starts")!r}, 'a').write('x')
if files.exists(files.join(folder, "result.json")):
    sys.exit(0)
""")
    command = ("run", run_file, "--stage", "ingest", "--output", "json")
    assert skipped(json.loads(lapactl(*command).stdout)) == [False]
    again = lapactl(*command)
    assert skipped(json.loads(again.stdout)) == [True]
    assert "ingest: looked again, unchanged" in again.stderr
    assert (tmp_path / "starts").read_text() == "xx"


def test_force_removes_the_checkpoints_of_a_stage_that_never_finished(lapactl, run_file, stage_program, tmp_path):
    use_existing_dataset(run_file, tmp_path)
    stage_program("""
pathlib.Path(folder, "checkpoints").mkdir(parents=True)  # raises where an earlier start left some
sys.exit(5)
""")
    command = ("run", run_file, "--stage", "laq")
    assert lapactl(*command).exit_code == 5
    assert lapactl(*command).exit_code == 1
    assert lapactl(*command, "--force", "laq").exit_code == 5


def test_each_forced_stage_is_removed_where_the_one_before_it_puts_it(lapactl_json, run_file, stage_program, tmp_path):
    use_existing_dataset(run_file, tmp_path)
    stage_program(f"""
with open({str(tmp_path / "starts")!r}, "a") as starts:
    starts.write(stage + " ")
""")
    command = ("run", run_file, "--set", f"work_url={tmp_path / 'work'}")
    assert skipped(lapactl_json(*command)) == [False, False, False]
    assert skipped(lapactl_json(*command)) == [True, True, True]
    assert skipped(lapactl_json(*command, "--force", "label", "--force", "laq")) == [True, False, False]
    assert (tmp_path / "starts").read_text() == "ingest laq label laq label "


def test_forcing_a_stage_that_would_not_run_names_the_planned_ones(lapactl, run_file):
    for words in (("--force", "finetune"), ("--stage", "laq", "--force", "label")):
        result = lapactl("run", run_file, *words)
        assert result.exit_code == 2
        assert "would not run; planned: " in result.stderr


def skipped(summary) -> list[bool]:
    return [item["was_skipped"] for item in summary["stages"]]


def use_existing_dataset(run_file: Path, tmp_path: Path) -> None:
    url = make_dataset(tmp_path / "videos", episodes=2, frames=6)
    settings = yaml.safe_load(run_file.read_text())
    run_file.write_text(yaml.safe_dump({**settings, "videos": {"kind": "dataset", "url": str(url)}}))


def test_progress_and_verdicts_are_words_and_results_are_data(lapactl, run_file, stage_program):
    stage_program()
    result = lapactl("run", run_file, "--stage", "ingest")
    assert result.exit_code == 0
    assert "5/10 steps, 2.5 steps/s, 2s left" in result.stderr
    assert "all is well" in result.stderr
    assert "hint: run the rest with `lapactl run" in result.stderr
    assert "1m 01s" in result.stdout
    assert "all is well" not in result.stdout


def test_the_next_command_keeps_the_settings_that_were_given(lapactl, run_file, stage_program):
    stage_program()
    result = lapactl("run", run_file, "--stage", "ingest", "--set", "seed=7")
    [hint] = re.findall(r"hint: run the rest with `lapactl run (.*)`", result.stderr)
    assert yaml.safe_load(Path(hint).read_text())["seed"] == 7


def test_judging_another_policy_leaves_the_runs_own_file_as_it_was(tmp_path):
    run = load_run("tabletop", [f"work_url={tmp_path / 'work'}", "baselines={}"])
    judging = load_run("tabletop", [f"work_url={tmp_path / 'work'}", "baselines={}", "evaluate.policy=lapa-policy/1"])
    own, other = (next(item for item in plan(each) if item.stage == "evaluate") for each in (run, judging))
    prepare(run, own, tmp_path / "own.log")
    before = run_file_of(run).read_text()
    prepare(judging, other, tmp_path / "other.log")
    assert run_file_of(run).read_text() == before
    started = Path(command_of(judging, other, nproc=1)[-1])
    assert load_run(str(started)) == judging and started != run_file_of(run)


def test_every_policy_that_is_judged_has_a_file_of_its_own_beside_those_of_baselines(tmp_path):
    settings = [f"work_url={tmp_path / 'work'}", "baselines={judged: {seed: 3}}"]
    own = load_run("tabletop", settings)
    judging = [load_run("tabletop", [*settings, f"evaluate.policy=lapa-policy/{version}"]) for version in (1, 2)]
    baseline = next(item for item in plan(own) if item.name == "judged")
    prepare(own, next(item for item in plan(own) if item.name == own.name), tmp_path / "log")
    started = [command_of(own, baseline, nproc=1)[-1]]
    started += [_judged_with(run) for run in judging]
    assert len(set(started)) == 3
    run_file_of(own).write_text("{")
    assert _judged_with(judging[0]) == started[1], "what cannot be read is not written over"


def _judged_with(run) -> str:
    """The file by which stage `evaluate` of the run itself starts."""
    planned = next(item for item in plan(run) if item.stage == "evaluate" and item.name == run.name)
    return command_of(run, planned, nproc=1)[-1]


def test_a_run_that_only_judges_has_its_file_where_others_have_theirs(tmp_path):
    judging = load_run("tabletop", [f"work_url={tmp_path / 'work'}", "baselines={}", "evaluate.policy=lapa-policy/1"])
    planned = next(item for item in plan(judging) if item.stage == "evaluate")
    for _ in range(2):
        file = prepare(judging, planned, tmp_path / "log")
        assert file == Path(command_of(judging, planned, nproc=1)[-1]) == run_file_of(judging)
    run_file_of(judging).write_text("{")
    assert command_of(judging, planned, nproc=1, file=file)[-1] == str(file), "as decided, whoever writes meanwhile"


def test_a_stage_that_asks_for_a_restart_is_started_again(lapactl_json, run_file, stage_program, tmp_path):
    starts = tmp_path / "starts"
    stage_program(f"""
open({str(starts)!r}, "a").write("x")
if len(open({str(starts)!r}).read()) < 3:
    sys.exit(75)
""")
    lapactl_json("run", run_file, "--stage", "ingest")
    assert starts.read_text() == "xxx"


def test_a_failing_stage_ends_the_run_with_its_error_code_and_log(lapactl, run_file, stage_program, tmp_path):
    stage_program("""
print("CodebookCollapsed: perplexity 1.01 is below 1.5. Lower the learning rate.", file=sys.stderr)
sys.exit(5)
""")
    result = lapactl("run", run_file, "--stage", "ingest")
    log = tmp_path / "work" / "logs" / "tiny" / "ingest.log"
    assert result.exit_code == 5
    assert "CodebookCollapsed: perplexity 1.01 is below 1.5. Lower the learning rate." in result.stderr
    assert str(log) in result.stderr
    assert log.exists()
    assert result.stdout == ""


def test_a_stage_without_its_input_names_the_stage_to_run_first(lapactl, run_file):
    result = lapactl("run", run_file, "--stage", "laq")
    assert result.exit_code == 3
    assert "lapactl run ingest" in result.stderr


def test_json_output_is_one_value(lapactl, run_file, stage_program):
    stage_program()
    result = lapactl("run", run_file, "--stage", "ingest", "--output", "json")
    printed = json.loads(result.stdout)
    assert printed["run"] == "tiny"
    assert printed["stages"][0]["metrics"] == {"success_rate": 0.5}
