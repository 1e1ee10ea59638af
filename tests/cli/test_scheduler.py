"""Chains of stages, a few processes at a time: shared once, alone where they must be, killed and gone on with.

Stages are stood in for by tiny programs that write what a stage writes.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lapa.bench.costs import read_cost
from lapa.bench.jobs import Job
from lapa.config.load import changed, load_run
from lapa.config.run import RunConfig
from lapa.config.stages import StageName
from lapa.stages.plan import PlannedStage, fingerprint, inputs_of, stage_folder
from lapa.stages.results import Artifact, StageResult
from lapactl.bench_display import BenchDisplay, remaining_seconds
from lapactl.errors import Interrupted
from lapactl.output import Output, OutputFormat
from lapactl.scheduler import Scheduler, failures
from tests.builders import make_dataset

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, pathlib, sys, time
stage, name, seed, work, folder, result = sys.argv[1:]
events = pathlib.Path(work, "events")
events.mkdir(exist_ok=True)
def note(word):
    (events / f"{time.time_ns()}-{word}").write_text(f"{stage} {name} {folder}")
note("start")
BODY
os.makedirs(folder, exist_ok=True)
pathlib.Path(folder, "result.json").write_text(result)
note("end")
"""
"""Imports nothing of ours: it is started dozens of times."""


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """Two runs with the same videos and other finetunings, and one that differs from the start."""
    videos = make_dataset(tmp_path / "videos", episodes=2, frames=6)
    robot = make_dataset(tmp_path / "robot", episodes=2, frames=6)
    settings = [f"work_url={tmp_path / 'work'}", "baselines={}", "laq.gate=null", "evaluate=null"]
    settings += ["videos.kind=dataset", f"videos.url={videos}", "robot.kind=dataset", f"robot.url={robot}"]
    base = load_run("tabletop", settings)
    stages = ("ingest", "laq", "label", "pretrain", "finetune")
    runs = [
        changed(base, {"name": "first"}),
        changed(base, {"name": "second", "finetune.fit.steps": 7}),
        changed(base, {"name": "third", "seed": 3}),
    ]
    (tmp_path / "work").mkdir()
    return [Job(run=run, stages=stages) for run in runs]


@pytest.fixture
def stages_do(monkeypatch):
    """`stages_do(code)`: what every stage does before it writes its result."""

    def stand_in(code: str) -> None:
        program = PROGRAM.replace("BODY", code)

        def command(run: RunConfig, planned: PlannedStage, *, nproc: int) -> list[str]:
            folder, result = stage_folder(run, planned.stage), result_of(run, planned.stage).model_dump_json()
            seed, work = str(run.seed), run.work_url
            return [sys.executable, "-S", "-c", program, planned.stage, run.name, seed, work, folder, result]

        monkeypatch.setattr("lapactl.scheduler.command_of", command)

    return stand_in


def result_of(run: RunConfig, stage: StageName) -> StageResult:
    """What a stage writes whose inputs are made."""
    folder = stage_folder(run, stage)
    made = {name: Artifact(url=f"{folder}/{name}", digest=folder) for name in ("model", "labels", "policy")}
    inputs = inputs_of(run, stage)
    return StageResult(
        stage=stage, name=run.name, fingerprint=fingerprint(run, stage), folder=folder, inputs=inputs, outputs=made
    )


def schedule(jobs: list[Job], slots: int = 2) -> Scheduler:
    return Scheduler(jobs, slots=slots, display=BenchDisplay(Output(OutputFormat.TEXT), slots=slots))


def events(jobs: list[Job]) -> list[tuple[str, str, str, str]]:
    """(start or end, stage, run, folder), in order."""
    found = sorted((Path(jobs[0].run.work_url) / "events").iterdir())
    return [(path.name.split("-")[1], *path.read_text().split()) for path in found]


def test_a_stage_that_chains_share_is_made_once_and_never_twice_at_a_time(jobs, stages_do):
    stages_do("time.sleep(0.1)")
    chains = schedule(jobs).run()
    assert not failures(chains)
    started = [folder for word, _, _, folder in events(jobs) if word == "start"]
    assert len(started) == len(set(started)) == 11  # ingest, laq, label, pretrain of two seeds; three finetunings
    assert all(stage_folder(job.run, "finetune") in started for job in jobs)


def test_as_many_stages_run_at_a_time_as_there_are_slots_and_ingest_runs_alone(jobs, stages_do):
    # Both seeds pretrain, and neither goes on before the other has come.
    come = "sum(path.read_text().startswith('pretrain') for path in events.glob('*-start'))"
    stages_do(f"while stage == 'pretrain' and {come} < 2: time.sleep(0.01)")
    schedule(jobs).run()
    running, most = set(), 0
    for word, stage, _, folder in events(jobs):
        running = running | {(stage, folder)} if word == "start" else running - {(stage, folder)}
        most = max(most, len(running))
        assert len(running) == 1 or "ingest" not in {name for name, _ in running}
    assert most == 2


def test_a_failure_stops_only_the_chains_that_need_what_failed(jobs, stages_do):
    stages_do("if stage == 'pretrain' and seed == '0': sys.exit('no gradient today')")
    told = failures(schedule(jobs).run())
    assert set(told) == {"first", "second"}
    assert "no gradient today" in told["first"]
    assert "first/pretrain.log" in told["second"], "it shares the stage that failed, and so its log"
    starts = [stage for word, stage, _, _ in events(jobs) if word == "start"]
    assert starts.count("pretrain") == 2, "a stage that failed is not tried again by those who share it"
    assert starts.count("finetune") == 1


def test_a_stage_that_asks_for_a_restart_gets_it_and_what_it_cost_is_added_up(jobs, stages_do):
    again = "mark = pathlib.Path(folder + '.mark')\nif not mark.exists():\n    mark.touch(); sys.exit(75)"
    stages_do(again)
    assert not failures(schedule(jobs[:1]).run())
    cost = read_cost(stage_folder(jobs[0].run, "laq"))
    assert cost is not None
    assert cost.starts == 2
    assert cost.cpu_seconds > 0


def test_the_same_jobs_again_start_nothing(jobs, stages_do):
    stages_do("")
    schedule(jobs).run()
    before = len(events(jobs))
    assert not failures(schedule(jobs).run())
    assert len(events(jobs)) == before


def test_ctrl_c_lets_stages_save_and_the_same_jobs_go_on(jobs, stages_do, monkeypatch):
    stages_do("if stage == 'label': os.kill(os.getppid(), 2); time.sleep(30)")
    with pytest.raises(Interrupted, match="the same command continues"):
        schedule(jobs).run()
    stages_do("")
    assert not failures(schedule(jobs).run())
    made = [folder for word, _, _, folder in events(jobs) if word == "end"]
    assert len(made) == len(set(made)) == 11, "what was finished before is not made again"


def test_stages_end_with_a_starter_that_is_killed(tmp_path: Path):
    """The real program: it waits in its imports or its work, and SIGKILL of its starter ends it."""
    inner = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {CHILD!r}, {str(tmp_path)!r}]); p.wait()"
    )
    starter = subprocess.Popen([sys.executable, "-c", inner], cwd=REPOSITORY)
    ready = tmp_path / "ready"
    for _ in range(6000):
        if ready.exists() and ready.read_text():
            break
        time.sleep(0.05)
    child = int(ready.read_text())
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    for _ in range(6000):
        if (tmp_path / "stopped").exists():
            break
        time.sleep(0.05)
    assert (tmp_path / "stopped").exists(), f"process {child} outlived its starter"


CHILD = """
import os, pathlib, signal, sys, time
os.environ["LAPA_STARTER"] = str(os.getppid())
from lapa.process import stop_with_starter
folder = pathlib.Path(sys.argv[1])
def stop(*_):
    (folder / "stopped").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
stop_with_starter()
(folder / "written").write_text(str(os.getpid()))
(folder / "written").rename(folder / "ready")
time.sleep(900)
"""


def test_what_remains_is_told_from_what_was_measured():
    means = {"ingest": 10.0, "laq": 100.0, "pretrain": 200.0}
    assert remaining_seconds({"ingest": 2, "laq": 2, "pretrain": 1}, means, slots=2) == (220.0, True)
    assert remaining_seconds({"laq": 2}, means, slots=2, spent=50.0) == (75.0, True)
    assert remaining_seconds({"laq": 1, "evaluate": 1}, means, slots=1) == (100.0, False)


def test_nothing_is_said_about_a_time_that_nothing_is_known_of():
    display = BenchDisplay(Output(OutputFormat.TEXT), slots=1)
    display.show([Planned()])
    assert display.headline().endswith("0/1 stages, 0s so far, time left unknown")
    display.measured("other", "laq", 100.0)
    assert display.headline().endswith("about 1m 40s left")


class Planned:
    """A chain of one stage that nobody has started."""

    keys = ("laq-of-a",)
    stages = ("laq",)
    done = 0
    failure = None
