"""schemathesis against the document that the server itself publishes."""

import re
import subprocess
import sys

import pytest
from policy_server import PATIENCE, TOKEN, Running, running

OPERATIONS = 7


@pytest.fixture(scope="module")
def small_server(bundle):
    with running(bundle, max_request_bytes=2**20) as server:
        yield server


def schemathesis(server: Running, *options: str) -> str:
    """Its report, once it found nothing."""
    done = subprocess.run(
        [
            sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run",
            f"{server.url}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}", "--no-color", "--seed", "1",
            # JSON Schema cannot say that an array has the bytes of its shape, so it allows requests that are refused.
            "--exclude-checks", "positive_data_acceptance",
            # A busy machine answers late, and is slow to think of requests.
            "--request-timeout", str(PATIENCE), "--suppress-health-check", "too_slow",
            *options,
        ],
        capture_output=True, text=True, timeout=20 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout


def test_the_rest_interface_does_what_its_document_says(small_server):
    """No 5xx, no status or form of answer that the document does not name, no bad request taken for a good one."""
    report = schemathesis(small_server, "--phases", "examples,coverage,fuzzing", "--max-examples", "10")
    assert f"Tested: {OPERATIONS}" in report, report
    assert re.search(r"(\d+) generated, \1 passed", report), report


@pytest.mark.slow
def test_the_rest_interface_does_what_its_document_says_at_length(small_server):
    report = schemathesis(small_server, "--max-examples", "400")
    assert re.search(r"(\d+) generated, \1 passed", report), report
