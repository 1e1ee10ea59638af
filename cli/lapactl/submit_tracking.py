"""The MLflow run of a submission, so that its page is there from the start."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lapa.config.run import RunConfig, TrackingConfig
from lapa.errors import LapaError, TrackingError
from lapa.stages.plan import fingerprint
from lapa.tracking.announce import AnnouncedRun, announce_run, withdraw_run
from lapa_k8s.spec import JobSpec
from lapactl.errors import is_about_storage
from lapactl.output import Output
from lapactl.submit_policy import judges_server


@contextmanager
def announced(out: Output, run: RunConfig, spec: JobSpec) -> Iterator[AnnouncedRun | None]:
    """While open, a run waits for the job; it is closed again where the job is not created.

    A server that cannot be reached from here, or inputs that cannot be read, are only told: the stage opens its run
    itself when it starts.
    """
    config = run.tracking.model_copy(update={"uri": run.tracking.uri or spec.tracking.uri})
    opened = _open(out, config, run, spec)
    try:
        yield opened
    except BaseException:
        if opened is not None:
            with suppress(TrackingError):  # the error on its way is the one to tell
                withdraw_run(config, work_url=run.work_url, run_id=opened.run_id)
        raise


def _open(out: Output, config: TrackingConfig, run: RunConfig, spec: JobSpec) -> AnnouncedRun | None:
    # The fingerprint of what a server serves is not known here.
    if not run.tracking.enabled or (spec.stage == "evaluate" and judges_server(run)):
        return None
    try:
        return announce_run(
            config,
            work_url=run.work_url,
            run_name=run.name,
            stage=spec.stage,
            fingerprint=fingerprint(run, spec.stage),
            tags={"lapa.job": spec.name, "lapa.namespace": spec.namespace, "lapa.image": spec.images.train},
        )
    except LapaError as error:
        out.warn(f"{error}. The run appears in MLflow when the job starts")
    except Exception as error:
        if not is_about_storage(error):
            raise
        out.warn(f"the inputs cannot be read from here, so the run appears in MLflow when the job starts: {error}")
    return None
