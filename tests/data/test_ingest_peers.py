"""Several machines make one dataset; one that dies loses the unit it was at, and nothing else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lapa import files
from lapa.config.data import IngestConfig, VideoFolderSource
from lapa.data.dataset import Dataset
from lapa.data.ingest import ingest
from lapa.data.ingest_peers import CLAIMS_FOLDER, Claims, Peers
from lapa.errors import ConfigError
from tests.data.sources import write_clips

PROGRAM = """
import sys
from lapa.config.data import IngestConfig
from lapa.data.ingest import help_ingest, ingest
from lapa.data.ingest_peers import Peers
if __name__ == "__main__":
    peers = Peers(index=int(sys.argv[3]), count=2, lease_seconds=4, poll_seconds=0.1)
    make = ingest if peers.finishes else help_ingest
    make(IngestConfig.model_validate_json(sys.argv[1]), sys.argv[2], peers=peers)
"""


def clips(folder: Path, count: int, **settings) -> IngestConfig:
    source = VideoFolderSource(url=str(write_clips(folder, count)))
    return IngestConfig(source=source, image_size=32, episodes_per_shard=1, workers=1, **settings)


def test_a_unit_is_claimed_once_and_a_dead_owner_s_claim_is_void(tmp_path):
    peers = [Peers(index=index, count=3, lease_seconds=1000) for index in range(3)]
    with Claims(str(tmp_path), peers[0]) as one, Claims(str(tmp_path), peers[1]) as other:
        taken = list(one.taken(range(4)))
        assert taken == [0, 1, 2, 3] and list(other.taken(range(4))) == []
        one.give_back(2)
        assert list(other.taken(range(4))) == [2]
        with Claims(str(tmp_path), Peers(index=2, count=3, lease_seconds=0)) as impatient:
            assert sorted(impatient.taken(range(4))) == [0, 1, 2, 3]
    assert files.list_names(str(tmp_path / CLAIMS_FOLDER)) == []


def test_an_owner_that_comes_back_goes_on_with_its_own(tmp_path):
    claims = Claims(str(tmp_path), Peers(index=1, count=2, lease_seconds=1000))
    assert list(claims.taken(range(2))) == [1, 0]  # as if killed: nothing is given back
    with Claims(str(tmp_path), Peers(index=1, count=2, lease_seconds=1000)) as again:
        assert sorted(again.taken(range(2))) == [0, 1]


def test_machines_begin_at_different_places(tmp_path):
    firsts = []
    for index in range(4):
        with Claims(str(tmp_path / str(index)), Peers(index=index, count=4)) as claims:
            firsts.append(next(claims.taken(range(100))))
    assert firsts == [0, 25, 50, 75]


def test_a_machine_alone_writes_no_claims(tmp_path):
    ingest(clips(tmp_path / "videos", 2), str(tmp_path / "out"))
    assert not (tmp_path / "out" / CLAIMS_FOLDER).exists()


def test_the_environment_of_a_pod_says_which_it_is():
    assert Peers.from_environment({"JOB_COMPLETION_INDEX": "3"}) == Peers()
    found = Peers.from_environment({"JOB_COMPLETION_INDEX": "3", "LAPA_INGEST_NODES": "4"})
    assert (found.index, found.count, found.finishes) == (3, 4, False)
    with pytest.raises(ConfigError, match="no number below LAPA_INGEST_NODES=4"):
        Peers.from_environment({"JOB_COMPLETION_INDEX": "4", "LAPA_INGEST_NODES": "4"})


def test_a_killed_machine_loses_only_what_it_was_at(tmp_path):
    config = clips(tmp_path / "videos", 10)
    whole = ingest(config, str(tmp_path / "whole"))
    output = tmp_path / "shared"
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def started(index: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, tmp_path / "program.py", config.model_dump_json(), output, str(index)]
        return subprocess.Popen(command, env=environment)

    with started(1) as helper:
        records = output / "_units"
        while helper.poll() is None and not (records.exists() and len(list(records.glob("*.json"))) >= 2):
            time.sleep(0.005)
        helper.send_signal(signal.SIGKILL)
    kept = {path.name: path.stat().st_mtime_ns for path in (output / "shards").glob("*.tar")}
    with started(0) as first:
        assert first.wait(timeout=600) == 0
    assert Dataset.open(str(output)).revision == whole.revision
    made_again = [name for name, moment in kept.items() if (output / "shards" / name).stat().st_mtime_ns != moment]
    assert len(made_again) <= 1
    assert not (output / CLAIMS_FOLDER).exists()
