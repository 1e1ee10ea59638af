"""The latency benchmark, short: what it reports is what happened."""

import json
import os
import subprocess
import sys

import pytest
from policy_server import TOKEN

from lapa.client.connection import ServerRefused
from lapa.client.latency import WARMUP, measure_latency
from lapa.config.serving import TOKEN_VARIABLE


def test_every_client_gets_its_answers_and_they_share_batches(server):
    before = server.metric("requests_total", protocol="openpi", outcome="ok")
    found = measure_latency(server.ws_url, token=TOKEN, clients=4, requests=5, image_side=32)
    assert found.clients == 4 and found.answers == 20 and found.refused == 0
    assert 0 < found.p50_ms <= found.p90_ms <= found.p99_ms <= found.longest_ms
    assert 1 <= found.mean_batch <= 4 and found.server_infer_p50_ms < found.longest_ms
    assert server.metric("requests_total", protocol="openpi", outcome="ok") == before + 4 * (5 + WARMUP)


def test_a_client_that_may_not_ask_ends_the_measurement(server):
    with pytest.raises(ServerRefused, match="token"):
        measure_latency(server.ws_url, token=None, clients=2, requests=1)


def test_the_script_writes_its_table_as_json(server, repository, tmp_path):
    command = [sys.executable, "benchmarks/latency.py", "--url", server.ws_url, "--clients", "1,2", "--requests", "3"]
    command += ["--image", "32", "--json", str(tmp_path / "latency.json")]
    environment = {**os.environ, TOKEN_VARIABLE: TOKEN}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "latency.json").read_text())
    assert [row["clients"] for row in written["latency"]] == [1, 2] and written["policy"]["name"] == "tiny"
