"""The chart, rendered by the real helm."""

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[2] / "helm" / "lapa"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
PROFILES = ("dev", "production", "air-gapped")
NAMESPACE = "robotics"
OPERATORS = (
    "kueue.x-k8s.io/v1beta2",
    "kueue.x-k8s.io/v1beta2/LocalQueue",
    "trainer.kubeflow.org/v1alpha1/TrainingRuntime",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
)
"""Kinds that a cluster with every optional operator serves."""

Object = dict[str, Any]


class HelmRefused(Exception):
    """What helm said."""


def helm(*arguments: str) -> str:
    """What a helm command prints. Raises HelmRefused."""
    # Beside this interpreter first: the version that is tested, whatever else is installed.
    program = shutil.which("helm", path=str(Path(sys.executable).parent)) or shutil.which("helm")
    assert program is not None, "there is no helm; install the dev extra"
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise HelmRefused(done.stdout + done.stderr)
    return done.stdout


def values_of(profile: str) -> Path:
    return CHART / "ci" / f"{profile}-values.yaml"


def template(
    profile: str | None = None,
    *,
    settings: tuple[str, ...] = (),
    apis: tuple[str, ...] = (),
    release: str = "lapa",
    namespace: str = NAMESPACE,
    kubernetes: str = "",
) -> str:
    """The manifests of a release, as YAML; for a version of Kubernetes, or for that which helm takes."""
    arguments = ["template", release, str(CHART), "--namespace", namespace]
    arguments += ["--kube-version", kubernetes] if kubernetes else []
    arguments += ["--values", str(values_of(profile))] if profile else []
    arguments += [item for setting in settings for item in ("--set", setting)]
    return helm(*arguments, *(item for api in apis for item in ("--api-versions", api)))


@functools.cache
def _parsed(profile: str | None, settings: tuple[str, ...], apis: tuple[str, ...]) -> tuple[Object, ...]:
    text = template(profile, settings=settings, apis=apis)
    return tuple(item for item in yaml.safe_load_all(text) if item)


def render(
    profile: str | None = None, *, settings: tuple[str, ...] = (), apis: tuple[str, ...] = ()
) -> tuple[Object, ...]:
    """The objects of a release. Callers share them: look, and do not change."""
    return _parsed(profile, settings, apis)


def one(objects: tuple[Object, ...], kind: str, name: str) -> Object:
    """The object of that kind and name."""
    found = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    assert len(found) == 1, (
        f"{len(found)} objects {kind} {name}: {[(i['kind'], i['metadata']['name']) for i in objects]}"
    )
    return found[0]


def pods_of(objects: tuple[Object, ...]) -> dict[str, Object]:
    """Every pod that the objects lead to, by the name of what makes it."""
    found = {item["metadata"]["name"]: item["spec"]["template"] for item in objects if item["kind"] == "Deployment"}
    for item in objects:
        if item["kind"] == "TrainingRuntime":
            for job in item["spec"]["template"]["spec"]["replicatedJobs"]:
                found[item["metadata"]["name"]] = job["template"]["spec"]["template"]
    return found
