"""What limits a stage whose work is done by processes of its own."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from lapa import timesheet
from lapa.config.load import resolve
from lapa.config.profile import ProfileConfig
from lapa.envs.evaluation import evaluate
from lapa.stages import ingest
from lapa.stages.accounted import account_of
from lapa.stages.plan import finished, stage_folder
from lapa.timesheet import Job, Pool, Timesheets
from lapa.types.episodes import ActionChunk
from tests.data.sources import write_clips


def job(process: int, start: float, **seconds: float) -> Job:
    worked = {"seconds": seconds, "cpu_seconds": seconds}
    end = start + sum(seconds.values())
    return Job(name="shard", label="shard", process=process, start=start, end=end, spans=[], **worked)


def test_the_line_names_the_limit_and_what_workers_waited():
    found = Timesheets(
        jobs=[job(2, 0.0, read=1.0, encode=5.0), job(3, 0.0, read=1.0, encode=1.0)],
        pools=[Pool(workers=2, start=0.0, end=6.0)],
    )
    account = account_of(found, {"read": "data", "encode": "compute", "peers": "communication"}, parent=1)
    assert account.line() == (
        "limited by compute (50% of 12 s of 2 processes, in 2 jobs): data 17%, compute 50%, communication 0%, "
        "waiting 33%; in the jobs: encode 50%, read 17%; on a core 100% of the time at work"
    )
    assert account.metrics() == pytest.approx({"profile/encode": 0.5, "profile/read": 1 / 6, "profile/waiting": 1 / 3})


def test_an_ingest_says_what_limits_it_and_leaves_a_trace(tmp_path: Path):
    source = {"kind": "videos", "url": str(write_clips(tmp_path / "videos", 4))}
    videos = {"kind": "ingest", "source": source, "image_size": 32, "workers": 1, "episodes_per_shard": 2}
    stages = {"pretrain": None, "finetune": None, "evaluate": None}
    run = resolve(
        {"name": "looked", "work_url": str(tmp_path / "work"), "videos": videos, "tracking": {"enabled": False}}
        | stages
    ).model_copy(update={"profile": ProfileConfig(steps=1)})
    ingest.main(run)
    result = finished(run, "ingest")
    assert result is not None
    (message,) = [message for message in result.messages if message.startswith("Profile: limited by ")]
    for part in ("read", "decode", "scale", "look", "encode", "write", "index"):
        assert f"{part} " in message.partition("in the jobs: ")[2]
    for limit in ("data", "compute", "communication", "writing", "waiting"):
        assert f"{limit} " in message.partition("in the jobs: ")[0]
    trace = json.loads(gzip.decompress(Path(stage_folder(run, "ingest"), "profile/trace.json.gz").read_bytes()))
    names = [event["name"] for event in trace["traceEvents"]]
    assert {"lapa: list", "lapa: shard 0", "lapa: shard 1", "lapa: index", "lapa: write"} <= set(names)
    assert names.count("lapa: encode") == 2  # of the first shard alone
    assert all(event["ph"] == "X" and event["ts"] >= 0 and event["dur"] >= 0 for event in trace["traceEvents"])


class Episode:
    """Over after two steps."""

    seed, kind, split, instruction, success, proprioception = 0, "reach", None, "go", True, None

    def __init__(self) -> None:
        self.left = 2
        self.image = np.zeros((4, 4, 3), dtype=np.uint8)

    @property
    def is_over(self) -> bool:
        return self.left == 0

    def step(self, action: np.ndarray) -> None:
        self.left -= 1

    def close(self) -> None:
        pass


class World:
    name, num_episodes, action_names, fps = "nowhere", 2, ("x",), 10.0

    def episode(self, index: int) -> Episode:
        return Episode()


def test_an_evaluation_tells_the_policy_from_the_simulator(tmp_path: Path):
    def act(observations, instructions):
        return [ActionChunk(actions=np.zeros((1, 1), dtype=np.float32), policy_digest="") for _ in observations]

    with timesheet.kept(tmp_path, traced=1):
        evaluate(act, World())
    (shard,) = timesheet.handed_in(tmp_path).jobs
    assert (shard.name, shard.label) == ("simulator", "episodes from 0")
    assert [name for name, _, _ in shard.spans] == ["policy"] * 3  # made, and asked twice
    assert set(shard.seconds) == {"simulator", "policy"}
