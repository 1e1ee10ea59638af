"""What `lapactl submit` does with a planned job: prints it, has the cluster check it, or sends it."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from lapa.config.serving import TOKEN_VARIABLE
from lapa.errors import ConfigError
from lapa_k8s.client import Cluster
from lapa_k8s.following import follow_logs, wait_for_end
from lapa_k8s.parts import Operator
from lapa_k8s.rendering.manifests import Submission, render, to_yaml
from lapa_k8s.spec import JobSpec
from lapa_k8s.submission import check, detect_operator, find_submitted, is_there, submit
from lapactl.cluster_quota import refuse_hopeless_queue
from lapactl.jobs_target import options_for, suggesting_here
from lapactl.output import Output
from lapactl.process import undone_when_stopped
from lapactl.submit_estimate import Estimate, estimate, say_estimate
from lapactl.submit_inputs import check_inputs
from lapactl.submit_job import PlannedJob, Request, plan_job
from lapactl.submit_policy import judges_server, pin_policy
from lapactl.submit_settings import Flag, Settings, resolve_settings
from lapactl.submit_tracking import announced

OFFLINE_OPERATOR: Operator = "pytorchjob"
"""What a dry run without a cluster shows when nobody says who runs the pods."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How a stage is to be submitted, as the command line says it."""

    source: str | None
    cluster: str | None
    overrides: Sequence[str]
    flags: Sequence[Flag]
    is_new: bool
    dry_run: Literal["client", "server"] | None
    is_waiting: bool
    is_following: bool
    step_seconds: float | None = None
    """Measured time of an optimizer step on such nodes; nothing is said of hours without."""


def submit_stage(out: Output, request: Request, wishes: Wishes) -> None:
    settings = resolve_settings(wishes.source, cluster=wishes.cluster, overrides=wishes.overrides, flags=wishes.flags)
    if request.stage == "evaluate":
        settings = pin_policy(out, settings, is_offline=wishes.dry_run == "client")
    if wishes.is_new:
        request = replace(request, attempt=secrets.token_hex(2))
    if wishes.dry_run == "client":
        planned = plan_job(settings, request, detect=lambda: OFFLINE_OPERATOR)
        say_plan(out, planned)
        warn_without_credentials(out, planned)
        say_estimate(out, estimate(planned, wishes.step_seconds))
        print_manifests(out, render(planned.spec))
        return
    # What can be known without a cluster is told without one.
    offline = plan_job(settings, request, detect=lambda: OFFLINE_OPERATOR)
    if wishes.dry_run is None:
        refuse_obstacles(offline.obstacles)
    cluster = Cluster.connect(settings.cluster.context)
    planned = plan_job(settings, request, detect=lambda: detect_operator(cluster))
    say_plan(out, planned)
    warn_without_credentials(out, planned)
    expected = estimate(planned, wishes.step_seconds)
    say_estimate(out, expected)
    refuse_queue(cluster, planned.spec)
    if wishes.dry_run == "server":
        check(cluster, planned.spec)
        print_manifests(out, render(planned.spec))
        out.hint("the cluster accepts these manifests; nothing was created")
        return
    if not wishes.is_new and (folder := check_inputs(planned.run, planned.spec.stage, out)) is not None:
        out.record({"stage": planned.spec.stage, "made": folder, "created": False})
        out.hint("the stage is made already, for these settings and inputs; --new runs it all the same")
        return
    _send(out, cluster, settings, planned, wishes, expected)


def _send(
    out: Output, cluster: Cluster, settings: Settings, planned: PlannedJob, wishes: Wishes, expected: Estimate
) -> None:
    spec = planned.spec
    link = None
    if (submitted := find_submitted(cluster, spec)) is None:
        asked = partial(is_there, cluster, spec)
        with undone_when_stopped(), announced(out, planned.run, spec, is_there=asked) as tracked:
            if tracked is not None:
                spec = spec.model_copy(update={"tracking_run_id": tracked.run_id})
                link = tracked.url
            submitted = submit(cluster, spec)
    out.record(
        {
            "job": spec.name,
            "kind": submitted.kind,
            "namespace": spec.namespace,
            "cluster": settings.cluster_name,
            "stage": spec.stage,
            "nodes": spec.nodes,
            "processes": spec.nodes * spec.processes_per_node,
            "gpus": expected.gpus,
            "gpu_hours": expected.gpu_hours,
            "queue": spec.scheduling.queue,
            "created": submitted.is_new,
            "state": submitted.state.state,
            "mlflow_run_id": submitted.tracking_run_id,
            "mlflow": link,
        }
    )
    if not submitted.is_new:
        out.hint(f"this very job was submitted before and is {submitted.state.state}; --new submits it again")
    place = place_of(wishes, spec.namespace)
    out.hint(f"follow it with `lapactl jobs logs {spec.name} --follow{place}`")
    out.hint(f"ask what it waits for with `lapactl jobs why {spec.name}{place}`")
    out.hint(f"stop it with `lapactl jobs cancel {spec.name}{place}`")
    follow_and_wait(out, cluster, spec.namespace, spec.name, wishes)


def place_of(wishes: Wishes, namespace: str) -> str:
    """The options by which `lapactl jobs` finds what was submitted."""
    return options_for(wishes.cluster, namespace)


def follow_and_wait(out: Output, cluster: Cluster, namespace: str, name: str, wishes: Wishes) -> None:
    """As the command line asks. Raises JobFailed, JobVanished."""
    if wishes.is_following:
        for line in follow_logs(cluster, namespace, name):
            (out.say if out.is_json else out.text)(line.text)
    if wishes.is_waiting or wishes.is_following:
        with suggesting_here(place_of(wishes, namespace)):
            wait_for_end(cluster, namespace, name, on_change=lambda now: out.say(f"{now.state}: {now.reason}"))


def say_plan(out: Output, planned: PlannedJob) -> None:
    for change in planned.changes:
        out.say(f"set {change}")
    warn_of_obstacles(out, planned.obstacles)


def warn_of_obstacles(out: Output, obstacles: Sequence[str]) -> None:
    """Of a dry run, here or on the server alike: it shows what would be sent, and what keeps it from being sent."""
    for obstacle in obstacles:
        out.warn(obstacle)
    if obstacles:
        out.warn("a dry run only shows this; `lapactl submit` refuses until what is said above is mended")


def warn_without_credentials(out: Output, planned: PlannedJob) -> None:
    """No obstacles: an account that nobody named can have cloud identity, as can a node; a server can be open."""
    spec, work_url = planned.spec, planned.run.work_url
    if work_url.startswith("s3://") and spec.storage.secret is None and spec.service_account is None:
        out.warn(
            f"no credentials are named for {work_url}: pods have those of the namespace's default ServiceAccount, "
            "if any. Set storage.secret or service_account in the cluster profile"
        )
    if spec.stage == "evaluate" and judges_server(planned.run) and TOKEN_VARIABLE not in spec.secrets:
        out.warn(
            "no token is named for the policy server: one that asks for a token refuses the job. Set "
            f"secrets.{TOKEN_VARIABLE}={{secret: …, key: …}} in the cluster profile, as serving.token does"
        )


def refuse_obstacles(obstacles: Sequence[str]) -> None:
    if obstacles:
        raise ConfigError("\n".join(obstacles))


def refuse_queue(cluster: Cluster, spec: JobSpec) -> None:
    """Before anything is made of a job that would wait for ever."""
    refuse_hopeless_queue(cluster, spec.namespace, spec.scheduling.queue, spec.node, nodes=spec.nodes)


def print_manifests(out: Output, manifests: Submission) -> None:
    if out.is_json:
        out.json({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    else:
        out.text(to_yaml(manifests))
