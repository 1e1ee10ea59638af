"""What `lapactl doctor` looks at. A check never raises: a problem is its result, with the remedy."""

import os
import shutil
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lapa import files
from lapa.config.data import ExistingDataset, IngestConfig, SimulatedSource, parts_of
from lapa.config.run import RunConfig
from lapa.errors import LapaError
from lapa.stages.plan import datasets_of
from lapa.tracking.mlflow_client import tracking_uri
from lapactl.library import ask_library
from lapactl.submit_job import PLACEHOLDER

GIB = 1024**3
NEEDED = ("torch", "av", "mlflow", "s3fs")
"""Packages without which no stage runs; others belong to one engine, backbone or source."""


STORE_REMEDY = "check the path; for S3 check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
TRACKING_REMEDY = (
    "check MLFLOW_TRACKING_URI or tracking.uri, and that the server runs; unset both for the embedded store"
)
PACKAGES_REMEDY = "install the training dependencies: make setup, or pip install 'lapa[train]'"

Status = Literal["ok", "warn", "fail", "unseen"]
"""`unseen`: cannot be found out from here, and the words say from where."""


class NothingThere(Exception):
    """The store answers, and has no such data."""


class Check(NamedTuple):
    """One answer."""

    check: str
    status: Status
    found: str
    remedy: str = ""


def check_everything(run: RunConfig) -> list[Check]:
    """All checks, in the order in which one would repair."""
    asked: dict[str, tuple[Callable[[], list[Check]], str]] = {
        "python": (lambda: [_python()], PACKAGES_REMEDY),
        "packages": (lambda: _library(run), PACKAGES_REMEDY),
        "memory": (lambda: [_memory()], "see with `free -h` that 4 GiB are there"),
        "disk": (lambda: [_disk(run)], "see with `df -h` that 10 GiB are free where --work is"),
        "shared memory": (lambda: [_shared_memory()], "see with `df -h /dev/shm` that it has 1 GiB"),
        "work folder": (lambda: [check_work(run)], STORE_REMEDY),
        "data": (lambda: check_sources(run), STORE_REMEDY),
        "tracking": (lambda: [_tracking(run)], TRACKING_REMEDY),
    }
    return [check for name, (ask, remedy) in asked.items() for check in _answered(name, ask, remedy)]


def _answered(name: str, ask: Callable[[], list[Check]], remedy: str) -> list[Check]:
    try:
        return ask()
    except Exception as error:  # whatever it is, the other checks are worth having
        return [Check(name, "fail", f"cannot be found out: {words_of(error)}", remedy)]


def _python() -> Check:
    found = f"Python {sys.version.split()[0]}, lapa {version('lapa')}"
    if (3, 11) <= sys.version_info < (3, 13):
        return Check("python", "ok", found)
    return Check("python", "fail", found, "use Python 3.11 or 3.12: make setup PYTHON=python3.11")


def _library(run: RunConfig) -> list[Check]:
    try:
        answer = ask_library(["doctor"], timeout_seconds=120)
    except LapaError as error:
        return [Check("packages", "fail", str(error).splitlines()[-1].strip(), PACKAGES_REMEDY)]
    return [_packages(answer["packages"], run), _devices(answer["devices"], answer["cpu"], run)]


def _packages(packages: dict[str, str | None], run: RunConfig) -> Check:
    found = ", ".join(f"{name} {number}" for name, number in packages.items() if number)
    needed = [*NEEDED, *(["deepspeed"] if run.engine.kind == "deepspeed" else [])]
    if missing := [name for name in needed if not packages.get(name)]:
        return Check("packages", "fail", found, f"pip install {' '.join(missing)}, or run make setup again")
    if absent := [name for name, number in packages.items() if number is None]:
        return Check("packages", "warn", found, f"{', '.join(absent)} not installed; some settings need it: make setup")
    return Check("packages", "ok", found)


def _devices(devices: list[dict[str, Any]], cpu: dict[str, Any], run: RunConfig) -> Check:
    if devices:
        names = [f"{device['name']} {device['memory_bytes'] / GIB:.0f} GiB" for device in devices]
        return Check("devices", "ok", ", ".join(names))
    found = f"no GPU; {cpu['cores']} CPU cores, {cpu['torch_threads']} torch threads, {cpu['capability']}"
    if run.laq.model.architecture.kind == "convolutional":
        return Check("devices", "ok", found)
    return Check("devices", "warn", found, f"run '{run.name}' is sized for GPUs; the preset `tabletop` fits CPUs")


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return _at_least("memory", total, warn=4 * GIB, fail=2 * GIB, remedy="use fewer stream.workers and smaller batches")


def _disk(run: RunConfig) -> Check:
    folder = files.local_path(run.work_url) or Path.cwd()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return _at_least("disk", free, warn=10 * GIB, fail=GIB, remedy=f"make room at {folder}, or choose another --work")


def _shared_memory() -> Check:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Check("shared memory", "ok", "not used on this system")
    remedy = "decoding workers share frames there: docker run --shm-size=2g, a pod's emptyDir of medium Memory"
    return _at_least("shared memory", shutil.disk_usage(folder).total, warn=GIB, fail=64 * 1024**2, remedy=remedy)


def _at_least(name: str, amount: int, *, warn: int, fail: int, remedy: str) -> Check:
    found = f"{amount / GIB:.1f} GiB"
    if amount >= warn:
        return Check(name, "ok", found)
    return Check(name, "fail" if amount < fail else "warn", found, f"{warn / GIB:g} GiB are wanted; {remedy}")


def check_work(run: RunConfig) -> Check:
    """Writes, reads and removes a small file."""

    def try_out() -> str:
        url = files.join(run.work_url, f".doctor-{uuid.uuid4().hex[:8]}")
        files.write_bytes(url, b"doctor")
        readable = files.read_bytes(url) == b"doctor"
        files.remove(url)
        if not readable:
            raise OSError("what was written reads back differently")
        return f"{run.work_url} can be written and read"

    return _tried("work folder", try_out, STORE_REMEDY)


def check_sources(run: RunConfig) -> list[Check]:
    urls = {
        f"{role}/{name}" if name else role: _url_of(part)
        for role, config in datasets_of(run).items()
        for name, part in parts_of(config).items()
    }
    return [_tried(f"{role} data", partial(_found, url), STORE_REMEDY) for role, url in urls.items() if url]


def _url_of(config: IngestConfig | ExistingDataset) -> str | None:
    """Where the data must be before a run; simulators make their own."""
    if isinstance(config, ExistingDataset):
        return config.url
    return None if isinstance(config.source, SimulatedSource) else config.source.url


def _found(url: str) -> str:
    if PLACEHOLDER in url:
        raise NothingThere(f"{url} is the preset's, where BUCKET stands for yours")
    if not files.exists(url):
        raise NothingThere(f"nothing at {url}")
    return url


def _tracking(run: RunConfig) -> Check:
    uri = tracking_uri(run.tracking, run.work_url)
    if not uri.startswith(("http://", "https://")):
        return Check("tracking", "ok", f"embedded store {uri}")

    def ask() -> str:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5) as answer:
            return f"{uri} answers {answer.status}"

    return _tried("tracking", ask, TRACKING_REMEDY)


def _tried(name: str, attempt: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(name, "ok", attempt())
    except NothingThere as error:
        return Check(name, "fail", str(error), "set the dataset's url, or its source.url, to what is there")
    except Exception as error:  # of any store's own kind: whatever it is, it is this check's answer
        return Check(name, "fail", words_of(error), remedy)


def words_of(error: Exception) -> str:
    """An error in a line of a table: ours and the system's in their own words, a store's with the name of its kind."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return words_of(error.reason)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, LapaError):
        return " ".join(line.strip() for line in lines)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{lines[0]} ({type(error).__name__})"
