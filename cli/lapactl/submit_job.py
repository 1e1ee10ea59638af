"""From settings and a stage to the job that runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from lapa import files
from lapa.config.data import StreamConfig
from lapa.config.load import arms, dump_run
from lapa.config.run import RunConfig
from lapa.config.stages import StageName
from lapa.config.training import FitConfig
from lapa.data.order import own_lanes
from lapa.errors import ConfigError
from lapa.stages.plan import stages_of
from lapa_k8s.image_reference import parse_reference
from lapa_k8s.kubeconfig import context_namespace
from lapa_k8s.parts import NodeShape, Operator
from lapa_k8s.profile import ClusterProfile
from lapa_k8s.spec import CPU_STAGES, ONE_PROCESS_STAGES, JobSpec
from lapactl.profiles import explain_problem
from lapactl.submit_policy import judges_server
from lapactl.submit_settings import Settings

OperatorChoice = Literal["auto", "pytorchjob", "trainjob", "job"]
PLACEHOLDER = "://BUCKET/"
"""How presets spell a bucket that only the user knows."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a submission asks for beside its settings."""

    stage: StageName
    nodes: int = 1
    gpus_per_node: int | None = None
    processes_per_node: int | None = None
    operator: OperatorChoice = "auto"
    attempt: str = ""


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """A job, what was changed to make it fit, and what would keep it from working."""

    spec: JobSpec
    run: RunConfig
    changes: tuple[str, ...]
    obstacles: tuple[str, ...]
    """Empty where the job can be sent; a dry run prints it all the same."""


def plan_job(settings: Settings, request: Request, *, detect: Callable[[], Operator]) -> PlannedJob:
    """Raises ConfigError where the request cannot be. `detect` says what the cluster serves, and is asked only if it
    matters."""
    _check_request(settings.run, request)
    cluster = settings.cluster
    node = _node(settings, request)
    processes = request.processes_per_node or max(node.gpus, 1)
    operator = _operator(cluster, request, detect)
    run = arms(settings.run)[settings.run.name]
    run, changes = _fit_to_ranks(run, request.stage, ranks=request.nodes * processes)
    try:
        spec = JobSpec(
            stage=request.stage,
            run=run.name,
            config=dump_run(run),
            namespace=cluster.namespace or context_namespace(cluster.context),
            operator=operator,
            nodes=request.nodes,
            processes_per_node=processes,
            node=node,
            attempt=request.attempt,
            **{name: getattr(cluster, name) for name in _SHARED},
        )
    except ValidationError as error:
        raise ConfigError("\n".join(explain_problem(detail, JobSpec) for detail in error.errors())) from None
    return PlannedJob(spec=spec, run=run, changes=changes, obstacles=tuple(obstacles_of(run, cluster)))


_SHARED = (
    "images",
    "scheduling",
    "storage",
    "tracking",
    "restarts",
    "network",
    "security",
    "runtime",
    "service_account",
    "environment",
    "secrets",
    "annotations",
)
"""Fields that a job takes from its profile as they are."""


def _check_request(run: RunConfig, request: Request) -> None:
    for option, value in (("--nodes", request.nodes), ("--processes-per-node", request.processes_per_node)):
        if value is not None and value < 1:
            raise ConfigError(f"{option} {value} would start nothing; ask for at least 1")
    if request.stage not in stages_of(run):
        raise ConfigError(
            f"the run '{run.name}' has no stage '{request.stage}': it is null. "
            f"Its stages are {', '.join(stages_of(run))}"
        )


def _node(settings: Settings, request: Request) -> NodeShape:
    whole = settings.cluster.gpu_node
    asked = request.gpus_per_node
    if asked is not None and not 0 <= asked <= whole.gpus:
        raise ConfigError(
            f"--gpus-per-node {asked}: a node of cluster '{settings.cluster_name}' has {whole.gpus} GPUs "
            "(cluster.gpu_node.gpus). Ask for at most that, or correct the profile"
        )
    if request.stage in CPU_STAGES:
        if asked:
            raise ConfigError(f"stage '{request.stage}' uses no GPU; leave --gpus-per-node out")
        return settings.cluster.cpu_node
    if asked is None and request.stage == "evaluate" and judges_server(settings.run):
        return settings.cluster.cpu_node  # the server has the policy, and the simulators draw without a GPU
    if asked is None:
        asked = min(whole.gpus, 1) if request.stage in ONE_PROCESS_STAGES else whole.gpus
    return whole.with_gpus(asked)


def _operator(cluster: ClusterProfile, request: Request, detect: Callable[[], Operator]) -> Operator:
    """One node of a stage that needs no peers is a plain Job; `label` shares its work, but does not need to."""
    if request.operator != "auto":
        return request.operator
    if request.stage in ONE_PROCESS_STAGES or (request.stage == "label" and request.nodes == 1):
        return "job"
    return cluster.operator if cluster.operator != "auto" else detect()


def _fit_to_ranks(run: RunConfig, stage: StageName, *, ranks: int) -> tuple[RunConfig, tuple[str, ...]]:
    """The run with decoding workers that the ranks can share lanes among; what it makes stays the same.

    Raises ConfigError where lanes or batch cannot be shared, before any GPU is held.
    """
    if stage in ONE_PROCESS_STAGES:
        return run, ()
    if ranks > 1 and stage != "label" and run.engine.kind != "deepspeed":
        raise ConfigError(
            f"{ranks} ranks need an engine for several processes, and engine.kind is '{run.engine.kind}'. "
            "Add --set engine.kind=deepspeed"
        )
    section = getattr(run, stage)
    stream, fit = getattr(section, "stream", None), getattr(section, "fit", None)
    if not isinstance(stream, StreamConfig) or not isinstance(fit, FitConfig):
        return run, ()
    workers = _workers(stream, fit, stage, ranks=ranks)
    if workers == stream.workers:
        return run, ()
    changed = section.model_copy(update={"stream": stream.model_copy(update={"workers": workers})})
    said = (
        f"{stage}.stream.workers: {stream.workers} -> {workers}, "
        f"since {ranks} ranks share {stream.lanes} lanes; set {stage}.stream.lanes for more"
    )
    return run.model_copy(update={stage: changed}), (said,)


def _workers(stream: StreamConfig, fit: FitConfig, stage: StageName, *, ranks: int) -> int:
    fitting = [n for n in range(stream.workers, 0, -1) if stream.lanes % (n * ranks) == 0 and stream.lanes % n == 0]
    if fitting:
        return fitting[0]
    try:  # in the stream's own words
        own_lanes(stream.lanes, batch_size=fit.batch_size, rank=0, world_size=ranks, workers=1)
    except ConfigError as error:
        raise ConfigError(f"stage '{stage}' on {ranks} ranks: {error}") from None
    return stream.workers


def obstacles_of(run: RunConfig, cluster: ClusterProfile) -> list[str]:
    """What would keep a run's jobs from working on a cluster; each a sentence and its remedy."""
    found = []
    if files.local_path(run.work_url) is not None:
        found.append(
            f"work_url is '{run.work_url}', a folder of this machine that pods cannot see. "
            "Set a bucket: --work s3://BUCKET/PATH, or settings.work_url in the cluster profile"
        )
    if PLACEHOLDER in dump_run(run):
        found.append(
            "the run names the bucket s3://BUCKET, which stands for yours. Set videos.source.url and robot.source.url "
            "in a run file, or as settings of the cluster profile"
        )
    if parse_reference(cluster.images.train) is None:
        found.append(
            f"images.train '{cluster.images.train}' is no image reference. "
            "Write registry/name:tag or registry/name@sha256:…, in lower case"
        )
    if run.tracking.enabled and not (run.tracking.uri or cluster.tracking.uri):
        found.append(
            "no MLflow server is named, and what a run records would be lost with its pod. "
            "Set tracking.uri in the cluster profile"
        )
    return found
