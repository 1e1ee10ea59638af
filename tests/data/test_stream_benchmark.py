"""`benchmarks/stream.py` runs, and measures every stream it names."""

import json
import subprocess
import sys

import pytest

from tests.distributed import rank_environment


@pytest.mark.slow
def test_the_stream_benchmark_measures_every_stream(repository, tmp_path):
    out = tmp_path / "result.json"
    sizes = ["--clips", "8", "--frames", "30", "--size", "32", "--rounds", "1"]
    command = [sys.executable, str(repository / "benchmarks" / "stream.py"), *sizes, "--out", str(out)]
    done = subprocess.run(command, env=rank_environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert {"lapa-local", "lapa-s3-cold", "lapa-s3-warm", "webdataset-local"} <= set(result["streams"])
    assert all(numbers["pairs_per_second"] > 0 for numbers in result["streams"].values())
    assert result["pairs"] == 8 * 25
