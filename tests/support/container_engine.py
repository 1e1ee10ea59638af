"""Podman with runc: a base image where none can be pulled, and builds with this machine's own pip settings."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BASE_VARIABLE = "LAPA_BASE_IMAGE"
"""Names the base image, e.g. debian:bookworm-slim; without it one is made by debootstrap, which needs root."""
IMAGE_VARIABLE = "LAPA_TRAIN_IMAGE"
SERVE_VARIABLE = "LAPA_SERVE_IMAGE"
"""Name images that are built already, to test those."""
OWN_BASE = "localhost/lapa-test-base:bookworm"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
SETTINGS = """[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
"""runc also starts containers where cgroups are of both versions; limits are what a user without rights may set."""
ROOT = Path(__file__).parents[2]
BUILD_SECONDS = 3600
PIP_OPTIONS = ("index-url", "extra-index-url", "find-links", "trusted-host", "no-index")


@dataclass(frozen=True)
class Podman:
    """The command, with a folder for what it reads."""

    folder: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "Podman":
        (folder / "containers.conf").write_text(SETTINGS)
        return cls(folder)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "CONTAINERS_CONF": str(self.folder / "containers.conf")}

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            ["podman", *words], env=self.environment, capture_output=True, text=True, check=False, cwd=self.folder
        )
        if check and ended.returncode != 0:
            raise AssertionError(f"podman {' '.join(words)}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
        return ended

    def base_image(self) -> str:
        """The named one, or Debian's smallest, made once per machine."""
        if named := os.environ.get(BASE_VARIABLE):
            return named
        if self("image", "exists", OWN_BASE, check=False).returncode != 0:
            root, archive = self.folder / "rootfs", self.folder / "rootfs.tar"
            subprocess.run(["debootstrap", "--variant=minbase", "bookworm", str(root)], check=True, capture_output=True)
            subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
            shutil.rmtree(root)
            self("import", str(archive), OWN_BASE)
            archive.unlink()
        return OWN_BASE

    def build_arguments(self) -> list[str]:
        """For pip as this machine has it: settings and certificates as secrets, local folders of packages mounted."""
        options = pip_options()
        settings = [f"{name} = {value}" for name, value in options.items()]
        arguments = ["--network=host", f"--build-arg=BASE_IMAGE={self.base_image()}"]
        if Path(CA_BUNDLE).exists():
            settings.append("cert = /run/secrets/ca")
            arguments.append(f"--secret=id=ca,src={CA_BUNDLE}")
        (self.folder / "pip.conf").write_text("\n".join(["[global]", *settings, ""]))
        arguments.append(f"--secret=id=pip-conf,src={self.folder / 'pip.conf'}")
        folders = {word.removeprefix("file://") for value in options.values() for word in value.split()}
        local = sorted(folder for folder in folders if folder.startswith("/") and Path(folder).is_dir())
        # An index's pages point to files beside them.
        mounted = [str(Path(folder).parent) if Path(folder).name == "simple" else folder for folder in local]
        return [*arguments, *(f"--volume={folder}:{folder}:ro" for folder in mounted)]


def train_image(podman: Podman) -> str:
    """The CPU image, by `make image-cpu`; what earlier builds left is used again."""
    return os.environ.get(IMAGE_VARIABLE) or _made(podman, "image-cpu", f"lapa-train:{project_version()}-cpu")


def serve_image(podman: Podman) -> str:
    """The policy server's, by `make image-serve-cpu`."""
    return os.environ.get(SERVE_VARIABLE) or _made(podman, "image-serve-cpu", f"lapa-serve:{project_version()}-cpu")


def _made(podman: Podman, target: str, tag: str) -> str:
    words = " ".join(podman.build_arguments())
    built = subprocess.run(
        ["make", target, "CONTAINER=podman", f"IMAGE_ARGS={words}"],
        cwd=ROOT, env=podman.environment, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout[-5000:] + built.stderr[-5000:]
    return tag


def project_version() -> str:
    """As pyproject.toml says it."""
    shown = (line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version = "))
    return next(shown).split('"')[1]


def missing_programs() -> str | None:
    """Why no container can run here; None when one can."""
    needed = ["podman", "runc", *([] if os.environ.get(BASE_VARIABLE) else ["debootstrap"])]
    if missing := [name for name in needed if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)} (apt-get install podman runc debootstrap)"
    if os.geteuid() != 0 and not os.environ.get(BASE_VARIABLE):
        return f"debootstrap needs root; or name an image in {BASE_VARIABLE}"
    return None


def pip_options() -> dict[str, str]:
    """What pip is told here about where packages are."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(r"^[^.]+\.([a-z-]+)='(.*)'$", listed, re.MULTILINE)
    return {name: value.replace("\\n", " ") for name, value in found if name in PIP_OPTIONS}


def as_in_a_pod(container: dict, image: str, mounted: dict[str, Path]) -> list[str]:
    """Words of `podman run` that do to a rendered container what a kubelet would, but for its resources.

    `mounted` are folders of this machine, by mount path. Not podman's tmpfs: its owner and mode are those of the
    folder underneath, while everybody may write to a pod's empty volumes.
    """
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}
    assert not security["allowPrivilegeEscalation"]
    return [
        "run", "--rm", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges",
        *(f"--env={item['name']}={item['value']}" for item in container["env"]),
        *(f"--volume={folder}:{path}" for path, folder in mounted.items()),
        image,
    ]  # fmt: skip
