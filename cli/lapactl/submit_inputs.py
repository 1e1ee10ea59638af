"""Whether a stage's inputs are there, and its result not yet, before any GPU is held."""

from lapa.config.run import RunConfig
from lapa.config.stages import StageName
from lapa.stages.plan import NotMadeYet, finished, inputs_of, stage_folder
from lapactl.errors import is_about_storage
from lapactl.output import Output
from lapactl.submit_policy import judges_server


def check_inputs(run: RunConfig, stage: StageName, out: Output) -> str | None:
    """The folder of a stage that is made already, else None. Raises NotMadeYet for a missing input.

    A store that this machine cannot read is only told: the pods have rights of their own. A policy server is not
    asked at all: its address is the cluster's.
    """
    if stage == "evaluate" and judges_server(run):
        return None
    try:
        inputs_of(run, stage)
        if finished(run, stage) is not None and stage != "ingest":
            return stage_folder(run, stage)
    except NotMadeYet as error:
        raise NotMadeYet(str(error).replace("lapactl run", "lapactl submit")) from None
    except Exception as error:
        if not is_about_storage(error):
            raise
        out.warn(
            f"cannot look into {run.work_url} from here, so the inputs are unchecked: {type(error).__name__}: {error}"
        )
    return None
