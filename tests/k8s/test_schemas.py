"""Manifests fit the schemas: Kubernetes' own for built-in kinds and pods, ours for the operators' kinds."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from job_specs import GOLDEN, PIPELINE

from lapa_k8s.rendering.manifests import render
from lapa_k8s.rendering.pipeline import render_pipeline

VERSIONS = ("1.31", "1.37")
"""Trainer v2 needs the first; the last is the newest known."""
CRDS = Path(__file__).parent / "crds"


def crd_schema(plural: str) -> dict[str, Any]:
    """A CRD's schema, closed to keys that it does not name, as strict validation on the server is."""
    crd = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())
    schema = copy.deepcopy(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    _close(schema)
    return schema


def _close(schema: dict[str, Any]) -> None:
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    for child in (*schema.get("properties", {}).values(), schema.get("items")):
        if isinstance(child, dict):
            _close(child)


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    """A pod as the operator would make it from a job's template."""
    spec = job["spec"]
    template = spec["pytorchReplicaSpecs"]["Worker"]["template"] if job["kind"] == "PyTorchJob" else spec["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", **template["metadata"]},
        "spec": template["spec"],
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", GOLDEN)
def test_built_in_kinds_and_pods_are_valid_to_the_letter(name: str, version: str):
    manifests = render(GOLDEN[name])
    kubernetes_validate.validate(manifests.config_map, version, strict=True)
    if manifests.job["kind"] == "Job":
        kubernetes_validate.validate(manifests.job, version, strict=True)
    if manifests.job["kind"] != "TrainJob":
        kubernetes_validate.validate(pod_of(manifests.job), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pipeline_is_valid_to_the_letter(version: str):
    manifests = render_pipeline(PIPELINE)
    for item in (*manifests, pod_of(manifests.job)):
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("name", [name for name, spec in GOLDEN.items() if spec.operator != "job"])
def test_the_operators_kinds_fit_their_schemas(name: str):
    job = render(GOLDEN[name]).job
    jsonschema.Draft7Validator(
        crd_schema({"PyTorchJob": "pytorchjobs", "TrainJob": "trainjobs"}[job["kind"]])
    ).validate(job)


@pytest.mark.parametrize("name", [name for name, spec in GOLDEN.items() if spec.operator == "trainjob"])
def test_what_a_trainjob_patches_into_pods_is_valid_in_a_pod(name: str):
    spec = render(GOLDEN[name]).job["spec"]
    job = spec["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
    template = job["template"]["spec"]["template"]
    trainer = spec["trainer"]
    container = {
        **template["spec"]["containers"][0],
        "image": trainer["image"],
        "command": trainer["command"],
        "env": trainer["env"],
        "resources": trainer["resourcesPerNode"],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", **template["metadata"]},
        "spec": {**template["spec"], "containers": [container]},
    }
    kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)


def test_the_closed_schema_refuses_what_does_not_exist():
    job = render(GOLDEN["pretrain"]).job
    job["spec"]["runPolicy"]["backofLimit"] = 3
    with pytest.raises(jsonschema.ValidationError, match="backofLimit"):
        jsonschema.Draft7Validator(crd_schema("pytorchjobs")).validate(job)
    job = render(GOLDEN["pretrain"]).job
    job["spec"]["nprocPerNode"] = 8
    with pytest.raises(jsonschema.ValidationError, match="8 is not of type 'string'"):
        jsonschema.Draft7Validator(crd_schema("pytorchjobs")).validate(job)
