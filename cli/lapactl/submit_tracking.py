"""The MLflow run of a submission, so that its page is there from the start."""

from collections.abc import Callable, Iterator
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
def announced(
    out: Output, run: RunConfig, spec: JobSpec, *, is_there: Callable[[], bool | None]
) -> Iterator[AnnouncedRun | None]:
    """While open, a run waits for the job; where that ends badly and the job is not there, it is closed again.

    ``is_there`` asks for the job, since whoever lost an answer does not know; None where that cannot be said. Then
    the run stays open: the same command, the job, or `lapactl jobs gc` finds it. A server that cannot be reached from
    here, or inputs that cannot be read, are only told: the stage opens its run itself when it starts.
    """
    config = run.tracking.model_copy(update={"uri": run.tracking.uri or spec.tracking.uri})
    opened = _open(out, config, run, spec)
    try:
        yield opened
    except BaseException:
        if opened is not None:
            _end(out, config, run, spec, opened, there=is_there())
        raise


def _end(
    out: Output, config: TrackingConfig, run: RunConfig, spec: JobSpec, opened: AnnouncedRun, *, there: bool | None
) -> None:
    if there:
        out.warn(f"job '{spec.name}' is there all the same, and its run in MLflow waits for it: repeat the command")
    elif there is None:
        out.warn(f"whether job '{spec.name}' is there cannot be asked, so its run in MLflow stays: repeat the command")
    else:
        with suppress(TrackingError):  # the error on its way is the one to tell
            withdraw_run(config, work_url=run.work_url, run_id=opened.run_id)


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
