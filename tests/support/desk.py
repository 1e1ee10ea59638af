"""The laptop from which a test submits, and where everything is that it has to do with."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lapa import files
from lapa.stages.results import StageResult, read_result
from lapa_k8s.client import Cluster
from lapa_k8s.kinds import SECRET
from tests.builders import make_dataset
from tests.e2e.programs import tiny_run
from tests.s3_server import S3Server

PATIENCE_SECONDS = 900
"""For anything that takes seconds to minutes where nothing else runs."""


class Desk(NamedTuple):
    """Where `lapactl` is called, with a run and a cluster profile."""

    folder: Path
    environment: Mapping[str, str]
    work_url: str
    namespace: str

    def starts(self, *words: str) -> "subprocess.Popen[str]":
        """`lapactl WORDS`, going on."""
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("lapactl")), *words],
            env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def prints(self, *words: str) -> str:
        """What a command prints; it must succeed."""
        return ended(self.starts(*words))

    def says(self, *words: str) -> Any:
        """The same, of a command that prints JSON."""
        return json.loads(self.prints(*words, "--output", "json"))

    def result(self, stage: str) -> StageResult | None:
        (name,) = self._folders(stage)
        return read_result(files.join(self.work_url, name))

    def checkpoints(self, stage: str) -> list[str]:
        """Names of the complete ones."""
        return [
            step
            for name in self._folders(stage)
            for step in files.list_names(files.join(self.work_url, name, "checkpoints"))
            if files.exists(files.join(self.work_url, name, "checkpoints", step, "manifest.json"))
        ]

    def _folders(self, stage: str) -> list[str]:
        return [part for part in files.list_names(self.work_url) if part.startswith(f"{stage}-")]


def new_desk(
    folder: Path, cluster: Cluster, namespace: str, s3: S3Server, *,
    kubeconfig: Path, profile: Mapping[str, Any], fit: Mapping[str, Any],
) -> Desk:  # fmt: skip
    """Videos in a bucket, a Secret with its keys in the namespace, a profile that names both, and a tiny run of laq."""
    bucket = s3.new_bucket(namespace)
    make_dataset(str(folder / "videos"), episodes=10, actions=False, episodes_per_shard=2)
    files.upload(folder / "videos", f"{bucket}/videos")
    put_keys(cluster, namespace, "bucket", s3.access_key, s3.secret_key)
    storage = {"endpoint_url": s3.endpoint, "region": "us-east-1", "secret": "bucket"}
    clusters = folder / "config" / "lapa" / "clusters"
    clusters.mkdir(parents=True)
    (clusters / "default.yaml").write_text(yaml.safe_dump({"namespace": namespace, "storage": storage, **profile}))
    run = tiny_run(folder, f"{bucket}/videos", "unused")
    run |= {"work_url": f"{bucket}/run", "robot": None, "pretrain": None, "finetune": None, "evaluate": None}
    run["laq"]["fit"] |= fit
    (folder / "run.yaml").write_text(yaml.safe_dump(run, sort_keys=False))
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "HOME": str(folder),
    }
    return Desk(folder, environment, f"{bucket}/run", namespace)


def put_keys(cluster: Cluster, namespace: str, name: str, access_key: str, secret_key: str) -> None:
    """A Secret as the profile's `storage.secret` wants it."""
    keys = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
    data = {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()}
    cluster.create(SECRET, namespace, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})


def ended(process: "subprocess.Popen[str]") -> str:
    """What a command printed, which must succeed."""
    said, words = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, f"exit code {process.returncode}\n{said}\n{words}"
    return said


def wait_until(is_so: Callable[[], bool], process: "subprocess.Popen[str] | None" = None) -> None:
    """Waits for a condition, as long as a process goes on."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.5)
