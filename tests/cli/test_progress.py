"""Progress is said in few words where nobody watches, and survives events that know little."""

import pytest
from rich.progress import Progress

from lapactl.output import Output, OutputFormat
from lapactl.progress import LiveDisplay, PlainDisplay, describe_event

TRAINING = [{"phase": "train", "step": step, "steps": 100, "rate": 2.0, "metrics": {"loss": 0.5}} for step in range(99)]


def test_an_event_is_described_by_what_it_knows():
    assert describe_event(TRAINING[40]) == "40/100 steps, 2 steps/s, 30s left, loss 0.5"
    assert describe_event({"phase": "record", "step": 7, "unit": "episodes"}) == "7 episodes"
    assert describe_event({"phase": "start"}) == ""


def test_a_log_gets_one_line_per_phase_not_one_per_step(capsys: pytest.CaptureFixture[str]):
    display = PlainDisplay(Output(OutputFormat.TEXT), "laq")
    for event in [*TRAINING, {"phase": "validation", "step": 99}, {"step": 100}, *TRAINING]:
        display.update(event)
    said = capsys.readouterr()
    assert [line.split()[:2] for line in said.err.splitlines()[:2]] == [["laq", "train"], ["laq", "validation"]]
    assert len(said.err.splitlines()) == 3
    assert said.out == ""


def test_a_validation_leaves_the_bar_where_it_is():
    progress = Progress(disable=True)
    task = progress.add_task("laq", total=None, words="")
    display = LiveDisplay(progress, task, Output(OutputFormat.TEXT), "laq")
    display.update(TRAINING[40])
    display.update({"phase": "validation", "step": 40, "metrics": {"loss": 1.0}})
    assert (progress.tasks[0].completed, progress.tasks[0].total) == (40, 100)


@pytest.mark.parametrize("is_live", [True, False])
def test_where_a_stage_goes_on_from_is_said_in_a_line_that_stays(is_live: bool, capsys: pytest.CaptureFixture[str]):
    out, bar = Output(OutputFormat.TEXT), Progress(disable=True)
    display = LiveDisplay(bar, bar.add_task("laq", words=""), out, "laq") if is_live else PlainDisplay(out, "laq")
    display.update({"phase": "resume", "note": "goes on from step 180 of 300"})
    assert capsys.readouterr().err == "laq: goes on from step 180 of 300\n"
