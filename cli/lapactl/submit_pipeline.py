"""`lapactl submit pipeline`: the stages of a run, one after the other, without this machine."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from lapa.config.run import RunConfig
from lapa.config.stages import StageName
from lapa.errors import ConfigError
from lapa.stages.plan import NotMadeYet, inputs_of, stages_of, unchanged
from lapa_k8s.client import Cluster
from lapa_k8s.errors import JobFailed
from lapa_k8s.parts import Operator
from lapa_k8s.pipeline import PipelineSpec
from lapa_k8s.rendering.pipeline import render_pipeline
from lapa_k8s.spec import CPU_STAGES, ONE_PROCESS_STAGES
from lapa_k8s.states import State
from lapa_k8s.submission import Submitted, check, check_manifests, detect_operator, find_sent, find_submitted, send
from lapactl.errors import is_about_storage
from lapactl.output import Output
from lapactl.process import undone_when_stopped
from lapactl.profiles import explain_problem
from lapactl.selection import check_stages
from lapactl.submit_estimate import estimate, say_estimate
from lapactl.submit_job import PlannedJob, Request, plan_job
from lapactl.submit_policy import pin_policy
from lapactl.submit_run import (
    OFFLINE_OPERATOR,
    Wishes,
    follow_and_wait,
    place_of,
    print_manifests,
    refuse_obstacles,
    refuse_queue,
    say_plan,
    warn_of_obstacles,
    warn_without_credentials,
)
from lapactl.submit_settings import Settings, resolve_settings

Detect = Callable[[], Operator]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Which stages, and on how many nodes."""

    first: str | None = None
    last: str | None = None
    nodes_of: dict[str, int] = field(default_factory=dict)
    """Nodes of single stages; the others have the request's."""


def submit_pipeline(out: Output, request: Request, chain: Chain, wishes: Wishes) -> None:
    """`request` says what all stages have in common. Raises ConfigError, ClusterError."""
    if wishes.step_seconds is not None:
        raise ConfigError("--step-seconds is measured for one stage: lapactl submit STAGE --step-seconds … --dry-run")
    settings = resolve_settings(wishes.source, cluster=wishes.cluster, overrides=wishes.overrides, flags=wishes.flags)
    if "evaluate" in _selected(settings.run, chain):
        settings = pin_policy(out, settings, is_offline=wishes.dry_run == "client")
    if wishes.is_new:
        request = replace(request, attempt=secrets.token_hex(2))
    planned = _plan(settings, request, chain, detect=lambda: OFFLINE_OPERATOR)
    if wishes.dry_run == "client":
        _say(out, planned)
        print_manifests(out, render_pipeline(_spec(settings, request, planned)))
        return
    # What can be known without a cluster is told without one.
    if wishes.dry_run is None:
        refuse_obstacles(_obstacles(planned))
    cluster = Cluster.connect(settings.cluster.context)
    planned = _plan(settings, request, chain, detect=lambda: detect_operator(cluster))
    _say(out, planned)
    if wishes.dry_run == "server":
        _check(cluster, _spec(settings, request, planned))
        print_manifests(out, render_pipeline(_spec(settings, request, planned)))
        out.hint("the cluster accepts these manifests, and those of every stage; nothing was created")
        return
    made = () if wishes.is_new else _made(planned, out)
    if len(made) == len(planned):
        out.record({"stages": list(made), "created": False})
        out.hint("every stage is made already, for these settings and inputs; --new runs them all the same")
        return
    _send(out, cluster, settings, _spec(settings, request, planned, made=made), wishes)


def _plan(settings: Settings, request: Request, chain: Chain, *, detect: Detect) -> list[PlannedJob]:
    stages = _selected(settings.run, chain)
    if absent := [name for name in chain.nodes_of if name not in stages]:
        raise ConfigError(f"--nodes {absent[0]}=…: the pipeline has no such stage; its stages are {', '.join(stages)}")
    return [plan_job(settings, _request(request, stage, chain), detect=detect) for stage in stages]


def _selected(run: RunConfig, chain: Chain) -> list[StageName]:
    stages = stages_of(run)
    for option, name in (("--from", chain.first), ("--to", chain.last)):
        if name is not None:
            check_stages([name])
            if name not in stages:
                raise ConfigError(
                    f"{option} {name}: the run '{run.name}' has no such stage; it has {', '.join(stages)}"
                )
    begin = 0 if chain.first is None else stages.index(chain.first)  # type: ignore[arg-type]  # just checked
    end = len(stages) - 1 if chain.last is None else stages.index(chain.last)  # type: ignore[arg-type]
    if end < begin:
        raise ConfigError(f"--from {chain.first} comes after --to {chain.last}; the order is {', '.join(stages)}")
    return stages[begin : end + 1]


def _request(common: Request, stage: StageName, chain: Chain) -> Request:
    """What all stages have in common, as far as it concerns this one."""
    is_alone = stage in ONE_PROCESS_STAGES
    return replace(
        common,
        stage=stage,
        nodes=chain.nodes_of.get(stage, 1 if is_alone else common.nodes),
        gpus_per_node=None if is_alone or stage in CPU_STAGES else common.gpus_per_node,
        processes_per_node=None if is_alone else common.processes_per_node,
        operator="auto" if is_alone else common.operator,
    )


def _spec(
    settings: Settings, request: Request, planned: Sequence[PlannedJob], *, made: Sequence[StageName] = ()
) -> PipelineSpec:
    cluster = settings.cluster
    try:
        return PipelineSpec(
            run=settings.run.name,
            namespace=planned[0].spec.namespace,
            stages=tuple(item.spec for item in planned),
            made=tuple(made),
            images=cluster.images,
            node=cluster.cpu_node,
            service_account=cluster.pipeline_service_account,
            security=cluster.security,
            keep_seconds=cluster.restarts.keep_seconds,
            attempt=request.attempt,
        )
    except ValidationError as error:
        raise ConfigError("\n".join(explain_problem(detail, PipelineSpec) for detail in error.errors())) from None


def _made(planned: Sequence[PlannedJob], out: Output) -> tuple[StageName, ...]:
    """The stages at the beginning that need not run. Raises NotMadeYet where the first one's inputs are missing.

    A store that this machine cannot read is only told: a stage that is made says so itself when it starts.
    """
    made: list[StageName] = []
    for item in planned:
        stage = item.spec.stage
        try:
            inputs_of(item.run, stage)
            if unchanged(item.run, stage) is None:
                break
        except NotMadeYet as error:
            if not made and item is planned[0]:
                raise NotMadeYet(str(error).replace("lapactl run", "lapactl submit")) from None
            break
        except Exception as error:
            if not is_about_storage(error):
                raise
            out.warn(f"cannot look into {item.run.work_url} from here, so every stage is submitted: {error}")
            break
        made.append(stage)
    return tuple(made)


def _send(out: Output, cluster: Cluster, settings: Settings, spec: PipelineSpec, wishes: Wishes) -> None:
    manifests = render_pipeline(spec)
    if (submitted := find_sent(cluster, manifests)) is None:
        _refuse_failed(cluster, spec, place_of(wishes, spec.namespace))
        _check(cluster, spec)  # a mistake in the last stage is told before the first one starts
        with undone_when_stopped():
            submitted = send(cluster, manifests)
    _tell(out, settings, spec, submitted, wishes)
    follow_and_wait(out, cluster, spec.namespace, spec.name, wishes)


def _refuse_failed(cluster: Cluster, spec: PipelineSpec, place: str) -> None:
    for stage in spec.pending:
        known = find_submitted(cluster, stage)
        if known is not None and known.state.state is State.FAILED:
            raise JobFailed(
                f"stage '{stage.stage}' was submitted before with this very content and failed, as job '{stage.name}'; "
                f"the pipeline would end there. See `lapactl jobs digest {stage.name}{place}`, then add --new"
            )


def _check(cluster: Cluster, spec: PipelineSpec) -> None:
    for stage in spec.pending:
        refuse_queue(cluster, stage)
        check(cluster, stage)
    check_manifests(cluster, render_pipeline(spec))


def _tell(out: Output, settings: Settings, spec: PipelineSpec, submitted: Submitted, wishes: Wishes) -> None:
    stages = [
        {"stage": item.stage, "job": None if item.stage in spec.made else item.name, "nodes": item.nodes}
        for item in spec.stages
    ]
    record = {
        "job": spec.name,
        "namespace": spec.namespace,
        "cluster": settings.cluster_name,
        "created": submitted.is_new,
        "state": submitted.state.state,
    }
    if out.is_json:
        out.json({**record, "stages": stages})
    else:
        out.record(record)
        out.table([{**item, "job": item["job"] or "made before"} for item in stages], columns=["stage", "job", "nodes"])
    if not submitted.is_new:
        out.hint(f"this very pipeline was submitted before and is {submitted.state.state}; --new submits it again")
    place = place_of(wishes, spec.namespace)
    out.hint("it goes on without this machine")
    out.hint(f"see where it is with `lapactl jobs show {spec.name}{place}`")
    out.hint(f"ask what it waits for with `lapactl jobs why {spec.name}{place}`")
    out.hint(f"stop it, and the stage that runs, with `lapactl jobs cancel {spec.name}{place}`")


def _say(out: Output, planned: Sequence[PlannedJob]) -> None:
    for item in planned:
        say_plan(out, replace(item, obstacles=()))
        say_estimate(out, estimate(item, None), stage=item.spec.stage)
    warn_of_obstacles(out, _obstacles(planned))
    warn_without_credentials(out, planned[-1])  # of the last stage, since only `evaluate` may need a server's token


def _obstacles(planned: Sequence[PlannedJob]) -> list[str]:
    """Each once: most are the run's, and the same for every stage."""
    return list(dict.fromkeys(obstacle for item in planned for obstacle in item.obstacles))
