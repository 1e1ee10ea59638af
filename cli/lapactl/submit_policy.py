"""What `submit evaluate` judges: an alias is pinned to the version that it means now, before the job gets its name."""

from lapa.config.run import RunConfig
from lapa.errors import TrackingError
from lapa.stages.evaluated import kind_of, pinned
from lapa.tracking.references import parse_reference
from lapactl.output import Output
from lapactl.submit_settings import Settings


def pin_policy(out: Output, settings: Settings, *, is_offline: bool) -> Settings:
    """The settings with `evaluate.policy` by number, and with the registry that the job will ask.

    The same command is the same job only while it means the same version. Raises TrackingError where the registry
    does not say; a dry run without a cluster shows the alias then.
    """
    policy = settings.run.evaluate.policy if settings.run.evaluate else None
    if policy is None or kind_of(policy) != "registered":
        return settings
    uri = settings.run.tracking.uri or settings.cluster.tracking.uri
    run = settings.run.model_copy(update={"tracking": settings.run.tracking.model_copy(update={"uri": uri})})
    if isinstance(parse_reference(policy).which, int):
        return settings._replace(run=run)
    try:
        return settings._replace(run=_said(out, policy, pinned(run)))
    except TrackingError as error:
        if not is_offline:
            raise TrackingError(f"{error} Or name the version itself: --set evaluate.policy=NAME/VERSION.") from error
        out.warn(f"{error} The job would be of the version that '{policy}' means when it is submitted")
        return settings._replace(run=run)


def judges_server(run: RunConfig) -> bool:
    """Whether the policy is a running server: reached from the cluster, and not needed here."""
    policy = run.evaluate.policy if run.evaluate else None
    return policy is not None and kind_of(policy) == "server"


def _said(out: Output, policy: str, run: RunConfig) -> RunConfig:
    if run.evaluate and run.evaluate.policy != policy:
        out.say(f"{policy} is {run.evaluate.policy}")
    return run
