"""The image, built and used as a cluster uses it: no root, a read-only root file system, the manifests' own volumes."""

import json
import tempfile
from pathlib import Path

import pytest
import yaml
from container_engine import Podman, as_in_a_pod, missing_programs, project_version, train_image
from job_specs import SMALL_NODE, job_spec

from lapa.stages.results import read_result
from lapa_k8s.rendering.paths import CONFIG_FILE, CONFIG_FOLDER
from lapa_k8s.rendering.pods import pod_template
from lapa_k8s.spec import JobSpec
from tests.builders import make_dataset
from tests.e2e.programs import ZERO3, tiny_run

GIB = 1 << 30

pytestmark = pytest.mark.images


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    if reason := missing_programs():
        pytest.skip(reason)
    return Podman.in_folder(tmp_path_factory.mktemp("podman"))


@pytest.fixture(scope="module")
def image(podman: Podman) -> str:
    return train_image(podman)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume with two small datasets that the image's user may write to, at the same path inside and outside."""
    folder = tmp_path_factory.mktemp("volume")
    make_dataset(str(folder / "videos"), episodes=10, actions=False, episodes_per_shard=2)
    make_dataset(str(folder / "robot"), episodes=6, seed=1)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o644)
    return folder


def in_pod(podman: Podman, image: str, spec: JobSpec, volume: Path, command: list[str] | None = None) -> str:
    """Stdout of the container that the spec renders, or of another command in its place."""
    container = pod_template(spec, container="pytorch", restart_policy="Never")["spec"]["containers"][0]
    config = podman.folder / spec.name
    config.mkdir(exist_ok=True)
    (config / CONFIG_FILE).write_text(spec.config)
    mounted = {CONFIG_FOLDER: config, str(volume): volume}
    with tempfile.TemporaryDirectory() as empty:
        for mount in container["volumeMounts"]:
            if mount["mountPath"] not in (CONFIG_FOLDER, "/dev/shm"):
                mounted[mount["mountPath"]] = folder = Path(empty, mount["name"])
                folder.mkdir()
                folder.chmod(0o777)
        return podman(*as_in_a_pod(container, image, mounted), *(command or container["command"])).stdout


def laq_spec(volume: Path, *, ranks: int = 1) -> JobSpec:
    """One step of the tiny run's first training stage."""
    run = tiny_run(volume / f"work-{ranks}", str(volume / "videos"), str(volume / "robot"))
    run["laq"]["fit"] = {**run["laq"]["fit"], "steps": 1, "validate_every": 1}
    if ranks > 1:
        run["engine"] = {name: yaml.safe_load(value) for name, value in (i[7:].split("=") for i in ZERO3)}
    return job_spec(
        stage="laq", operator="job", nodes=1, processes_per_node=ranks, node=SMALL_NODE, config=yaml.safe_dump(run)
    )


def test_the_command_answers_as_the_user_of_the_manifests(podman, image, data):
    spec = laq_spec(data)
    assert "submit" in in_pod(podman, image, spec, data, ["lapactl", "--help"])
    assert in_pod(podman, image, spec, data, ["id", "-u"]).strip() == str(spec.security.user)


def test_doctor_finds_what_training_needs(podman, image, data):
    found = json.loads(in_pod(podman, image, laq_spec(data), data, ["python", "-m", "lapa", "doctor"]))
    assert None not in found["packages"].values()
    assert found["cpu"]["gloo"]


@pytest.mark.parametrize("ranks", [1, 2], ids=["one-process", "zero-3-on-two-ranks"])
def test_a_stage_trains_a_step_as_the_manifests_start_it(podman, image, data, ranks):
    in_pod(podman, image, laq_spec(data, ranks=ranks), data)
    (folder,) = (data / f"work-{ranks}").glob("laq-*/")
    result = read_result(str(folder))
    assert result is not None and result.stage == "laq" and result.outputs


def test_nothing_outside_the_volumes_can_be_written(podman, image, data):
    attempt = "for path in / /opt/lapa /etc /var/tmp /run /tmp; do touch $path/x 2>/dev/null && echo $path; done; true"
    assert in_pod(podman, image, laq_spec(data), data, ["sh", "-c", attempt]).split() == ["/tmp"]


def test_the_image_has_neither_a_compiler_nor_the_secrets_of_its_build(podman, image, data):
    search = "command -v cc gcc g++ c++ clang nvcc; cat /etc/pip.conf 2>/dev/null; ls /run/secrets 2>/dev/null; true"
    assert in_pod(podman, image, laq_spec(data), data, ["sh", "-c", search]) == ""
    history = podman("history", "--no-trunc", "--format={{.CreatedBy}}", image).stdout
    assert str(podman.folder) not in history


def test_the_image_says_what_it_is(podman, image):
    (found,) = json.loads(podman("image", "inspect", image).stdout)
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in found["Labels"].items()}
    assert labels["version"] == project_version()
    assert labels["licenses"] == "Apache-2.0"
    assert len(labels["revision"].removesuffix("-dirty")) == 40
    assert found["User"] == "10001:10001"
    assert found["Size"] < 4 * GIB
