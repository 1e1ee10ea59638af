"""What holds for every job, whatever was asked for."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_specs import FULL, job_spec
from pydantic import ValidationError

from lapa.config.stages import STAGES
from lapa.stages.context import ONE_PROCESS_STAGES as LIBRARY_ONE_PROCESS_STAGES
from lapa.training.metrics_server import PORT_VARIABLE
from lapa_k8s.names import MAX_NAME, job_name, label_value
from lapa_k8s.parts import NodeShape, Restarts, Scheduling
from lapa_k8s.rendering.manifests import render
from lapa_k8s.secrets import names_a_secret, secret_in
from lapa_k8s.spec import ONE_PROCESS_STAGES, JobSpec, Stage

RUN_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,48}[a-z0-9])?", fullmatch=True)
SHARED_STAGES = st.sampled_from(["laq", "label", "pretrain", "finetune"])


@st.composite
def node_shapes(draw: Any) -> NodeShape:
    memory = draw(st.integers(4, 4000))
    return NodeShape(
        gpus=draw(st.integers(0, 16)),
        cpu=draw(st.integers(1, 256)),
        memory_gib=memory,
        shared_memory_gib=draw(st.integers(1, memory - 1)),
        rdma=draw(st.sampled_from([{}, {"rdma/ib": 8}, {"vpc.amazonaws.com/efa": 32}])),
    )


@st.composite
def job_specs(draw: Any) -> JobSpec:
    operator = draw(st.sampled_from(["pytorchjob", "trainjob", "job"]))
    return job_spec(
        run=draw(RUN_NAMES),
        stage=draw(SHARED_STAGES),
        operator=operator,
        nodes=1 if operator == "job" else draw(st.integers(1, 512)),
        processes_per_node=draw(st.integers(1, 16)),
        node=draw(node_shapes()),
        restarts=Restarts(retries=draw(st.integers(0, 10)), step_seconds=draw(st.integers(0, 600))),
        attempt=draw(st.sampled_from(["", "a1b2"])),
    )


def objects_in(value: Any) -> Any:
    """Every mapping inside plain data."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from objects_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from objects_in(item)


@given(RUN_NAMES, st.sampled_from(STAGES), st.text("0123456789abcdef", min_size=8, max_size=64))
def test_names_are_dns_labels_that_leave_room_for_the_pods(run: str, stage: str, content: str):
    name = job_name(run, stage, content, "a1b2")
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= MAX_NAME
    assert len(f"{name}-worker-999") <= 63
    assert len(f"{name}-node-0-999-abcde") <= 63
    assert name.endswith(f"-{stage}-{content[:8]}-a1b2")


@given(st.text(max_size=200))
def test_label_values_are_valid_whatever_the_text(text: str):
    assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", label_value(text))


@given(job_specs())
def test_the_same_job_renders_the_same_and_another_gets_another_name(spec: JobSpec):
    again = JobSpec.model_validate_json(spec.model_dump_json())
    assert render(again) == render(spec)
    assert spec.model_copy(update={"config": "other: 1\n"}).name != spec.name
    assert spec.model_copy(update={"tracking_run_id": "abc"}).name == spec.name


@given(job_specs())
def test_requests_equal_limits_and_shared_memory_fits_into_the_memory(spec: JobSpec):
    manifest = render(spec).job
    found = [item for item in objects_in(manifest) if {"requests", "limits"} <= set(item)]
    assert found
    for resources in found:
        assert resources["requests"] == resources["limits"]
    assert spec.node.shared_memory_gib < spec.node.memory_gib


@given(job_specs())
def test_every_pod_meets_the_restricted_pod_security_level(spec: JobSpec):
    text = json.dumps(render(spec).job)
    assert "hostPath" not in text
    containers = [item for item in objects_in(render(spec).job) if "volumeMounts" in item]
    assert len(containers) == 1
    security = containers[0]["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    pods = [item for item in objects_in(render(spec).job) if "volumes" in item]
    assert pods[0]["securityContext"]["runAsNonRoot"] is True
    assert pods[0]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    mounted = {mount["name"] for mount in containers[0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pods[0]["volumes"]}


@given(job_specs())
def test_pods_have_longer_to_stop_than_their_ranks_have_to_save(spec: JobSpec):
    restarts = spec.restarts
    assert restarts.grace_seconds > restarts.shutdown_seconds >= restarts.save_seconds + restarts.step_seconds
    environments = [item["env"] for item in objects_in(render(spec).job) if "env" in item]
    shown = {item["name"]: item.get("value") for item in environments[0]}
    assert shown["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == str(restarts.shutdown_seconds)
    assert len(shown) == len(environments[0]), "a variable is set twice"


@given(job_specs())
def test_pods_that_train_show_their_numbers_on_the_port_that_they_name(spec: JobSpec):
    found = list(objects_in(render(spec).job))
    shown = [item["value"] for item in found if item.get("name") == PORT_VARIABLE]
    ports = [item["containerPort"] for item in found if item.get("name") == "metrics"]
    trains = spec.stage in ("laq", "pretrain", "finetune")
    assert shown == (["9464"] if trains else [])
    # A TrainJob cannot name ports: the chart's runtime does.
    assert ports == ([9464] if trains and spec.operator != "trainjob" else [])


@given(job_specs())
def test_a_pytorchjob_has_workers_only_and_waits_for_all_of_them(spec: JobSpec):
    job = render(spec.model_copy(update={"operator": "pytorchjob"})).job["spec"]
    assert list(job["pytorchReplicaSpecs"]) == ["Worker"]
    worker = job["pytorchReplicaSpecs"]["Worker"]
    elastic = job["elasticPolicy"]
    assert worker["replicas"] == elastic["minReplicas"] == elastic["maxReplicas"] == spec.nodes
    assert job["runPolicy"]["backoffLimit"] == spec.nodes * spec.restarts.retries + 1
    container = worker["template"]["spec"]["containers"][0]
    assert container["name"] == "pytorch"
    assert "readinessProbe" not in container


@given(node_shapes(), st.integers(0, 16))
def test_a_part_of_a_machine_never_asks_for_more_than_the_whole(whole: NodeShape, gpus: int):
    part = whole.with_gpus(min(gpus, whole.gpus))
    assert part.cpu <= whole.cpu
    assert part.memory_gib <= max(whole.memory_gib, 2)
    assert part.shared_memory_gib < part.memory_gib
    assert all(part.rdma[name] <= count for name, count in whole.rdma.items() if name in part.rdma)


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": {"AWS_SECRET_ACCESS_KEY": "x"}},
        {"environment": {"MY_TOKEN": "x"}},
        {"environment": {"PROXY": "http://me:hunter2@proxy"}},
        {"config": "work_url: s3://AKIAABCDEFGHIJKLMNOP@bucket\n"},
        {"config": "tracking:\n  uri: https://me:hunter2@mlflow.example\n"},
        {"config": "key: |\n  -----BEGIN RSA PRIVATE KEY-----\n"},
    ],
)
def test_a_literal_secret_is_refused_and_not_repeated(changes: dict[str, Any]):
    with pytest.raises(ValidationError) as caught:
        job_spec(**changes)
    assert "Kubernetes Secret" in str(caught.value.errors()[0]["ctx"]["error"])
    assert "hunter2" not in str(caught.value.errors()[0]["ctx"]["error"])


def test_everything_a_profile_can_say_puts_no_secret_into_a_manifest():
    for item in objects_in(list(render(job_spec(**FULL)))):
        for key, value in item.items():
            assert not (isinstance(value, str) and secret_in(value)), key
        if names_a_secret(str(item.get("name", ""))):
            assert "value" not in item


@pytest.mark.parametrize(("name", "is_secret"), [
    ("HF_TOKEN", True), ("DB_PASSWORD", True), ("OPENAI_API_KEY", True),
    ("TOKENIZERS_PARALLELISM", False), ("AWS_WEB_IDENTITY_TOKEN_FILE", False), ("NCCL_DEBUG", False),
])  # fmt: skip
def test_variables_are_known_by_their_names(name: str, is_secret: bool):
    assert names_a_secret(name) is is_secret


def test_control_plane_and_library_mean_the_same_stages():
    assert Stage.__args__ == STAGES
    assert ONE_PROCESS_STAGES == LIBRARY_ONE_PROCESS_STAGES


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage": "evaluate", "operator": "job", "nodes": 2}, "one process"),
        ({"stage": "evaluate", "nodes": 1, "processes_per_node": 1}, "needs no operator"),
        ({"operator": "job"}, "one node"),
        ({"operator": "trainjob", "scheduling": Scheduling(priority_class="high")}, "priority class"),
    ],
)
def test_what_an_operator_cannot_do_is_refused_with_the_way_out(changes: dict[str, Any], words: str):
    with pytest.raises(ValidationError, match=words):
        job_spec(**changes)
