"""The policy server's image, as a cluster starts it: no root, a read-only root file system, one writable folder."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from container_engine import Podman, missing_programs, project_version, serve_image
from policy_server import PATIENCE, TOKEN, free_port, is_ready, wait_for
from requests import get, post

from tests.serving.conftest import make_bundle

GIB = 1 << 30
AS_IN_A_POD = ("--rm", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")

pytestmark = pytest.mark.images


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    if reason := missing_programs():
        pytest.skip(reason)
    return Podman.in_folder(tmp_path_factory.mktemp("podman"))


@pytest.fixture(scope="module")
def image(podman: Podman) -> str:
    return serve_image(podman)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, and a folder that everybody may write to, as a pod's empty volume."""
    folder = tmp_path_factory.mktemp("volume")
    shutil.copytree(make_bundle(folder / "made"), folder / "policy")
    (folder / "tmp").mkdir()
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o644)
    return folder


@pytest.fixture(scope="module")
def served(podman: Podman, image: str, volume: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The port of a server that is ready, and its container's process."""
    port = free_port()
    words = [
        "podman", "run", *AS_IN_A_POD, f"--env=LAPA_SERVER_TOKEN={TOKEN}",
        f"--volume={volume / 'policy'}:/policy:ro", f"--volume={volume / 'tmp'}:/tmp",
        image, "lapactl", "serve", "/policy", "--host", "0.0.0.0", "--port", str(port), "--record", "/tmp/recorded",
    ]  # fmt: skip
    log = podman.folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(words, env=podman.environment, stdout=output, stderr=output)
    try:
        wait_for(lambda: process.poll() is not None or is_ready(port), "the server's readiness")
        assert process.poll() is None, log.read_text()
        yield port, process
    finally:
        process.terminate()  # podman hands it to the server, which drains
        assert process.wait(PATIENCE) == 0, log.read_text()


def test_a_bundle_is_served_and_what_robots_saw_is_recorded(served, volume):
    port, _ = served
    assert get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=PATIENCE).json() == {"status": "ready"}
    body = {"image": [[[0, 0, 0]] * 24] * 24, "instruction": "push", "state": [0.0, 0.0]}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = post(f"http://127.0.0.1:{port}/act", json=body, headers=headers, timeout=PATIENCE)
    assert answer.status_code == 200 and len(answer.json()["actions"][0]) == 3
    metrics = get(f"http://127.0.0.1:{port}/metrics", headers=headers, timeout=PATIENCE).text
    assert "lapa_serving_ready 1.0" in metrics


def test_nothing_outside_the_volume_can_be_written_and_nothing_can_be_built(podman, image, volume):
    attempt = (
        "id -u; for path in / /opt/lapa /etc /var/tmp /run /tmp; do touch $path/x 2>/dev/null && echo $path; done;"
        "command -v cc gcc g++ clang; ls /run/secrets 2>/dev/null; true"
    )
    said = podman("run", *AS_IN_A_POD, f"--volume={volume / 'tmp'}:/tmp", image, "sh", "-c", attempt).stdout
    assert said.split() == ["10001", "/tmp"]


def test_trainings_packages_are_not_in_it(podman, image):
    absent = "deepspeed mlflow kubernetes gymnasium pymunk sklearn matplotlib"
    program = f"import importlib.util as u; print([n for n in {absent.split()} if u.find_spec(n)])"
    assert podman("run", *AS_IN_A_POD, image, "python", "-c", program).stdout.strip() == "[]"


def test_the_image_says_what_it_is(podman, image):
    (found,) = json.loads(podman("image", "inspect", image).stdout)
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in found["Labels"].items()}
    assert labels["title"] == "LAPA policy server" and labels["version"] == project_version()
    assert found["User"] == "10001:10001" and not found.get("Healthcheck")
    assert found["Size"] < 3 * GIB
