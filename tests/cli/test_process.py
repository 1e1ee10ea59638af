"""A stage's process is followed, stopped gently, and explained when it fails."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lapa.errors import ConfigError
from lapactl import alone
from lapactl.errors import StageFailed
from lapactl.failures import explain_failure, own_error
from lapactl.library import ask_library
from lapactl.process import run_process, undone_when_stopped


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_events_arrive_whole_and_in_order(tmp_path):
    code = """
import os
with open(os.environ["LAPA_PROGRESS_FILE"], "a", buffering=1) as file:
    for step in range(3):
        file.write('{"phase": "train", "step": %d}\\n' % step)
    file.write('{"phase": "cut sho')
"""
    events = []
    ended = run_process(python(code), log=tmp_path / "log", on_event=events.append)
    assert ended == (0, False)
    assert [event["step"] for event in events] == [0, 1, 2]


def test_what_it_says_is_in_the_log_and_nowhere_else(tmp_path, capfd):
    run_process(python("import sys; print('out'); print('err', file=sys.stderr)"), log=tmp_path / "log", on_event=id)
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]
    assert capfd.readouterr() == ("", "")


def test_a_stage_knows_whose_death_ends_it(tmp_path):
    run_process(python("import os; print(os.environ['LAPA_STARTER'])"), log=tmp_path / "log", on_event=id)
    assert int((tmp_path / "log").read_text()) == os.getpid()


def test_what_is_left_of_a_killed_run_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(alone, "LOCK_SECONDS", 0.0)
    file, told = tmp_path / "locks" / "laq-1", []
    words = {"others": "what still trains", "busy": "another program trains", "tell": told.append}
    with alone.held_alone(file, **words) as lock:
        left = subprocess.Popen(python("input()"), stdin=subprocess.PIPE, pass_fds=[lock])
    with pytest.raises(ConfigError, match="another program trains"), alone.held_alone(file, **words):
        pass
    assert told in ([], ["waiting for what still trains"])
    left.communicate(b"end\n")
    with alone.held_alone(file, **words):
        pass


def test_ctrl_c_lets_the_stage_save_before_it_ends(tmp_path):
    saved = tmp_path / "saved"
    ready = tmp_path / "ready"
    code = f"""
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path({str(saved)!r}).write_text("step 7")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
pathlib.Path({str(ready)!r}).touch()
time.sleep(600)
"""

    before = signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background of a shell

    def press_ctrl_c():
        while not ready.exists() or signal.getsignal(signal.SIGINT) is before:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c).start()
    ended = run_process(python(code), log=tmp_path / "log", on_event=id)
    assert ended.was_interrupted
    assert ended.exit_code == 75
    assert saved.read_text() == "step 7"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_users_error_is_told_whole_without_its_traceback():
    words = """2026-01-01 00:00:00 INFO rank=0 lapa starting
Traceback (most recent call last):
  File "x.py", line 1
LabelMismatch: the labels were made with window 3, the run asks for 5.
Set laq.window_seconds=0.3, or label again.
E0101 00:00:00.000000 1 torch/distributed/elastic: failed (exitcode: 3)
"""
    assert explain_failure(words) == (
        "LabelMismatch: the labels were made with window 3, the run asks for 5.\n"
        "Set laq.window_seconds=0.3, or label again."
    )


def test_what_the_library_refuses_reads_as_if_the_command_had_refused_it():
    with pytest.raises(StageFailed, match=r"^'footprint' works on a run: ") as refused:
        ask_library(["footprint"])
    assert refused.value.exit_code == 2
    told = own_error("2026-01-01 00:00:00 INFO rank=0 probing\nNotMadeYet: make it first: lapactl run tabletop laq\n")
    assert told == ("NotMadeYet", "make it first: lapactl run tabletop laq")


def test_any_other_failure_shows_the_end_of_the_log():
    told = explain_failure("\n".join(f"line {index}" for index in range(100)))
    assert "line 99" in told
    assert "line 50" not in told


@pytest.mark.parametrize(("first", "second"), [(signal.SIGTERM, signal.SIGHUP), (signal.SIGHUP, signal.SIGTERM)])
def test_what_is_undone_when_stopped_is_undone_to_the_end_however_often_it_is_stopped(first, second):
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (first, second)}
    undone = []

    @undone_when_stopped()
    def begin() -> None:
        try:
            signal.raise_signal(first)
        finally:
            for number in (second, first):
                signal.raise_signal(number)
                undone.append(number)

    try:
        with pytest.raises(SystemExit) as ended:
            begin()
        assert [signal.getsignal(number) for number in (first, second)] == [signal.SIG_DFL] * 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (ended.value.code, undone) == (128 + first, [second, first])
