"""The MLflow run of a job that is removed, perhaps before it has started."""

from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from lapa.config.load import resolve
from lapa.config.run import RunConfig
from lapa.errors import LapaError
from lapa.tracking.announce import withdraw_run
from lapa_k8s.base import Manifest
from lapa_k8s.errors import ClusterError
from lapa_k8s.kinds import CONFIG_MAP
from lapa_k8s.names import TRACKING_ANNOTATION
from lapa_k8s.rendering.paths import CONFIG_FILE
from lapactl.jobs_target import Target
from lapactl.output import Output


@contextmanager
def withdrawn(out: Output, target: Target, job: Manifest) -> Iterator[None]:
    """While open, a job is removed; then its run ends as killed, where it still waits for the job.

    A stage that has started ends its run itself. Where the run is, the job's configuration says, which goes with the
    job: it is read before. What cannot be read or reached is only told.
    """
    run_id = (job["metadata"].get("annotations") or {}).get(TRACKING_ANNOTATION)
    if run_id is None:
        yield
        return
    problem: Exception | None = None
    try:
        run = _run_of(target, job)
    except (ClusterError, LapaError) as error:
        problem = error
    yield
    try:
        if problem is None:
            withdraw_run(run.tracking, work_url=run.work_url, run_id=run_id)
    except LapaError as error:
        problem = error
    if problem is not None:
        out.warn(f"MLflow may go on showing run {run_id} as scheduled: {problem}")


def _run_of(target: Target, job: Manifest) -> RunConfig:
    """What a job runs, with the server that its profile names.

    Raises ClusterError where the configuration may not be read, ConfigError where another version wrote it.
    """
    config_map = target.cluster.get(CONFIG_MAP, target.namespace, job["metadata"]["name"])
    run = resolve(yaml.safe_load(config_map["data"][CONFIG_FILE]))
    tracking = run.tracking.model_copy(update={"uri": run.tracking.uri or target.tracking_uri})
    return run.model_copy(update={"tracking": tracking})
