"""A pipeline: what is sent, how its driver goes on, what is said of it. Requests to a fake server."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeApi, status
from job_specs import SMALL_NODE, job_spec

from lapa_k8s.client import Cluster
from lapa_k8s.errors import JobFailed, JobVanished, NameTaken
from lapa_k8s.names import PIPELINE_LABEL
from lapa_k8s.pipeline import PipelineSpec
from lapa_k8s.pipeline_driver import drive, main, read_plan
from lapa_k8s.pipeline_progress import cancel_pipeline, current_stage, progress_of, told
from lapa_k8s.rendering.manifests import Submission, render
from lapa_k8s.rendering.pipeline import FINAL_ERRORS, PLAN_FILE, render_pipeline
from lapa_k8s.states import JobState, State
from lapa_k8s.submission import send, submit

STAGES = (
    job_spec(stage="ingest", operator="job", nodes=1, processes_per_node=1, node=SMALL_NODE),
    job_spec(stage="laq", nodes=2),
    job_spec(stage="label", nodes=2, operator="trainjob"),
)
PATHS = {
    "ingest": f"/apis/batch/v1/namespaces/team/jobs/{STAGES[0].name}",
    "laq": f"/apis/kubeflow.org/v1/namespaces/team/pytorchjobs/{STAGES[1].name}",
    "label": f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainjobs/{STAGES[2].name}",
}


def pipeline(**changes: Any) -> PipelineSpec:
    return PipelineSpec(**{"run": "demo", "namespace": "team", "stages": STAGES, "node": SMALL_NODE, **changes})


def plan_of(spec: PipelineSpec) -> list[Submission]:
    return [Submission(**step) for step in json.loads(render_pipeline(spec).config_map["data"][PLAN_FILE])]


class Ending:
    """Ends each job as it is created; the fake has no operator."""

    def __init__(self, api: FakeApi, **how: str) -> None:
        self.created: list[str] = []
        self._api, self._how = api, how
        api.rules.append(self)

    def __call__(self, method: str, path: str, query: dict[str, str]) -> None:
        if method == "POST" and not path.endswith("configmaps"):
            self.created.append(path.rsplit("/", 1)[1])
        if method == "GET":
            for stage, where in PATHS.items():
                if where in self._api.objects:
                    ended = self._how.get(stage, "Succeeded" if stage == "laq" else "Complete")
                    self._api.objects[where]["status"] = {"conditions": [{"type": ended, "status": "True"}]}


def test_the_plan_holds_what_each_stage_alone_would_send():
    for spec, step in zip(STAGES, plan_of(pipeline()), strict=True):
        alone = render(spec)
        assert step.config_map == alone.config_map
        labels = {**alone.job["metadata"]["labels"], PIPELINE_LABEL: pipeline().name}
        assert step.job == {**alone.job, "metadata": {**alone.job["metadata"], "labels": labels}}


def test_a_plan_is_read_back_as_it_was_written(tmp_path: Path):
    path = tmp_path / PLAN_FILE
    path.write_text(render_pipeline(pipeline()).config_map["data"][PLAN_FILE])
    assert read_plan(path) == plan_of(pipeline())


def test_what_was_made_before_is_not_sent_and_does_not_change_the_name():
    whole, rest = pipeline(), pipeline(made=("ingest",))
    assert whole.name == rest.name
    assert [step.job["metadata"]["name"] for step in plan_of(rest)] == [spec.name for spec in STAGES[1:]]


def test_another_setting_of_any_stage_is_another_pipeline():
    names = {pipeline().name}
    for number, spec in enumerate(STAGES):
        changed = (*STAGES[:number], spec.model_copy(update={"config": "name: demo\nseed: 1\n"}), *STAGES[number + 1 :])
        names.add(pipeline(stages=changed).name)
    assert len(names) == 4


@pytest.mark.parametrize(
    "changes", [{"stages": ()}, {"stages": (STAGES[0], STAGES[0])}, {"made": ("ingest", "laq", "label")}]
)
def test_a_pipeline_with_nothing_to_do_or_a_stage_twice_is_refused(changes: dict[str, Any]):
    with pytest.raises(ValueError, match="stage"):
        pipeline(**changes)


def test_only_the_driver_has_a_token_and_the_restricted_level_admits_it():
    pod = render_pipeline(pipeline()).job["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is True
    assert pod["serviceAccountName"] == "lapa-pipeline"
    assert pod["securityContext"]["runAsNonRoot"] is True
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "nvidia.com/gpu" not in json.dumps(container["resources"])


def test_each_stage_is_sent_when_the_one_before_has_succeeded(fake_api: FakeApi, cluster: Cluster):
    ending, said = Ending(fake_api), []
    drive(cluster, plan_of(pipeline()), say=said.append)
    assert ending.created == ["jobs", "pytorchjobs", "trainjobs"]
    assert said[-1] == "every stage has succeeded"


def test_a_driver_that_starts_again_goes_on_where_the_chain_is(fake_api: FakeApi, cluster: Cluster):
    submit(cluster, STAGES[0])
    ending = Ending(fake_api)
    drive(cluster, plan_of(pipeline()), say=lambda _: None)
    assert ending.created == ["pytorchjobs", "trainjobs"]


def test_a_stage_that_fails_ends_the_chain(fake_api: FakeApi, cluster: Cluster):
    ending = Ending(fake_api, laq="Failed")
    with pytest.raises(JobFailed, match=STAGES[1].name):
        drive(cluster, plan_of(pipeline()), say=lambda _: None)
    assert ending.created == ["jobs", "pytorchjobs"]


def test_a_stage_that_is_cancelled_ends_the_chain(fake_api: FakeApi, cluster: Cluster):
    def vanish(method: str, path: str, _: dict[str, str]) -> None:
        if method == "GET" and path.endswith("/pods") and PATHS["ingest"] in fake_api.objects:
            del fake_api.objects[PATHS["ingest"]]

    fake_api.rules.append(vanish)
    with pytest.raises(JobVanished):
        drive(cluster, plan_of(pipeline()), say=lambda _: None)
    assert PATHS["laq"] not in fake_api.objects


@pytest.mark.parametrize(
    ("answer", "code", "is_final"),
    [
        (status(403, "Forbidden", 'pytorchjobs is forbidden: User "x" cannot create'), 22, True),
        (status(403, "Forbidden", "exceeded quota: gpus, limited: 8"), 25, False),
        (status(500, "InternalError", "etcd is away"), 20, False),
        (status(422, "Invalid", "spec: Invalid value"), 27, True),
    ],
)
def test_the_driver_ends_with_a_code_that_kubernetes_reads(
    fake_api: FakeApi, tmp_path: Path, monkeypatch, capsys, answer, code: int, is_final: bool
):
    monkeypatch.setattr("lapa_k8s.pipeline_driver.signal.signal", lambda *_: None)  # the tests' process keeps its own
    Ending(fake_api)
    fake_api.rules.append(lambda method, path, _: answer if method == "POST" and "pytorchjobs" in path else None)
    plan = tmp_path / PLAN_FILE
    plan.write_text(render_pipeline(pipeline()).config_map["data"][PLAN_FILE])
    assert main([str(plan)]) == code
    assert "error: " in capsys.readouterr().out
    assert (code in {error.exit_code for error in FINAL_ERRORS}) is is_final
    rules = render_pipeline(pipeline()).job["spec"]["podFailurePolicy"]["rules"]
    assert (code in rules[-1]["onExitCodes"]["values"]) is is_final


def test_the_same_pipeline_twice_is_the_same_job_however_much_is_made(fake_api: FakeApi, cluster: Cluster):
    assert send(cluster, render_pipeline(pipeline())).is_new
    assert not send(cluster, render_pipeline(pipeline(made=("ingest",)))).is_new
    fake_api.objects[f"/apis/batch/v1/namespaces/team/jobs/{pipeline().name}"]["metadata"]["annotations"] = {}
    with pytest.raises(NameTaken):
        send(cluster, render_pipeline(pipeline()))


def test_progress_names_the_stage_that_it_is_at():
    job = render_pipeline(pipeline(made=("ingest",))).job
    progress = progress_of(job, {STAGES[1].name: JobState(State.RUNNING, "2 pods")})
    assert [item.state for item in progress] == ["made before", "running", "not submitted yet"]
    assert current_stage(progress).stage == "laq"
    assert told(JobState(State.RUNNING, "1 pod"), progress).reason == "stage 2 of 3, laq: running"


def test_jobs_that_are_removed_after_their_time_are_not_taken_for_jobs_to_come():
    job = render_pipeline(pipeline()).job
    at_last = progress_of(job, {STAGES[2].name: JobState(State.RUNNING, "")})
    assert [item.state for item in at_last] == ["succeeded", "succeeded", "running"]
    done = {**job, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    assert [item.state for item in progress_of(done, {})] == ["succeeded"] * 3
    assert [item.state for item in progress_of(job, {})] == ["not submitted yet"] * 3


def test_cancelling_stops_the_stage_that_the_pipeline_submitted_and_no_other(fake_api: FakeApi, cluster: Cluster):
    send(cluster, render_pipeline(pipeline()))
    submit(cluster, STAGES[0])  # by somebody else
    send(cluster, plan_of(pipeline())[1])
    [stopped] = cancel_pipeline(cluster, "team", pipeline().name)
    assert stopped["metadata"]["name"] == STAGES[1].name
    assert PATHS["ingest"] in fake_api.objects
    assert PATHS["laq"] not in fake_api.objects
    assert f"/apis/batch/v1/namespaces/team/jobs/{pipeline().name}" not in fake_api.objects
