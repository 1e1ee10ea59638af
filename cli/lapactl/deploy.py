"""`lapactl deploy`: policy servers that run what the registry names, and go back to what ran before."""

from typing import TYPE_CHECKING, Annotated

import typer

from lapactl import deploy_replay
from lapactl.deploy_options import (
    DEFAULT_COMMAND,
    ClusterOption,
    DeployGroup,
    KeepOption,
    NameArgument,
    NamesArgument,
    NamespaceOption,
    ReconnectOption,
    StateOption,
    TargetKind,
    TargetOption,
    TimeoutOption,
    end_cleanly,
)
from lapactl.options import OutputOption, WorkOption
from lapactl.output import Output, OutputFormat
from lapactl.registry import DEFAULT_CONFIG, ConfigOption, TrackingOption, open_registry

if TYPE_CHECKING:
    from lapa_k8s.rollout_sync import Finder

app = typer.Typer(
    cls=DeployGroup,
    help="Run registered policies for robots. `deploy NAME@production` is short for `deploy start NAME@production`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(DEFAULT_COMMAND, epilog="Example: lapactl deploy start lapa-policy@production --target local")
def start(
    model: Annotated[
        str, typer.Argument(metavar="NAME[@ALIAS|/VERSION]", help="A registered policy; its production by default.")
    ],
    target: TargetOption = TargetKind.KUBERNETES,
    name: Annotated[
        str | None, typer.Option("--name", help="Of the deployment, and of its Service; the model's by default.")
    ] = None,
    image: Annotated[str | None, typer.Option("--image", help="Sets cluster.images.serve.")] = None,
    replicas: Annotated[int | None, typer.Option("--replicas", min=1, help="Sets cluster.serving.replicas.")] = None,
    token_secret: Annotated[
        str | None,
        typer.Option("--token-secret", metavar="SECRET[:KEY]", help="Existing Secret with the robots' tokens."),
    ] = None,
    token_file: Annotated[
        str | None, typer.Option("--token-file", metavar="FILE", help="For --target local; else LAPA_SERVER_TOKEN.")
    ] = None,
    is_open: Annotated[bool, typer.Option("--insecure", help="Answer whoever asks, without a token.")] = False,
    host: Annotated[str, typer.Option("--host", help="Address of --target local; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of --target local.")] = 8000,
    settings: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Setting of the server, e.g. bounds=refuse.")
    ] = [],  # noqa: B006 (Typer copies defaults)
    timeout: TimeoutOption = None,
    keep_minutes: KeepOption = None,
    is_reconnecting: ReconnectOption = False,
    is_waiting: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Switch when it is ready; --no-wait only starts it.")
    ] = True,
    is_checked: Annotated[bool, typer.Option("--check/--no-check", help="Look at the bundle from here first.")] = True,
    reason: Annotated[str, typer.Option("--reason", metavar="WHY", help="Why; kept with the release.")] = "",
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent.")] = False,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    work: WorkOption = None,
    tracking: TrackingOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Start a version beside what runs, and switch to it when it is ready.

    The version is pinned by number and digest. It is ready when it is loaded, warmed up and answers
    what its bundle recorded as it did at export. Until then, and if that never comes, what runs is
    not touched. Ends with 31 where another deployer came first, with 32 where it never became ready.
    """
    from lapactl.deploy_pinned import followed_alias, pin, tell_gates
    from lapactl.deploy_places import Place, offering_this_machine
    from lapactl.deploy_start import Wish, deploy
    from lapactl.jobs_target import seconds_of

    end_cleanly()
    out, registry = Output(output), open_registry(config, work, tracking)
    pinned = pin(registry, model, is_checked=is_checked and not is_dry)
    tell_gates(out, registry, pinned)
    wish = Wish(
        place=Place(kind=target, cluster=cluster, namespace=namespace, state=state),
        name=name, image=image, replicas=replicas, token_secret=token_secret, token_file=token_file, is_open=is_open,
        host=host, port=port, settings=settings, seconds=seconds_of(timeout), keep_minutes=keep_minutes,
        is_reconnecting=is_reconnecting, is_waiting=is_waiting, is_dry=is_dry, reason=reason,
    )  # fmt: skip
    with offering_this_machine(wish.place, f"lapactl deploy start {model} --target local"):
        deploy(out, pinned, followed_alias(model), wish)


@app.command(epilog="Example: lapactl deploy status --output json")
def status(
    names: NamesArgument = None,
    target: TargetOption = TargetKind.KUBERNETES,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    work: WorkOption = None,
    tracking: TrackingOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show what should run, what runs, and how it is.

    What should run is the version that the alias names now; where the registry is away that is
    unknown, and the rest is shown all the same.
    """
    from lapactl.deploy_places import Place, open_target, saying_what_is_here, what_is_here
    from lapactl.deploy_show import deployed, print_status

    out, place = Output(output), Place(kind=target, cluster=cluster, namespace=namespace, state=state)
    with saying_what_is_here(place, "status", names):
        found = open_target(place)
        shown = print_status(out, found, names or deployed(found), _finder(config, work, tracking))
    if not shown and (words := what_is_here(place, "status", names)):
        out.hint(words)


@app.command(epilog="Example: lapactl deploy sync --all --watch 30s")
def sync(
    names: NamesArgument = None,
    is_all: Annotated[bool, typer.Option("--all", help="Every deployment here.")] = False,
    interval: Annotated[
        str | None, typer.Option("--watch", metavar="TIME", help="Look again after so long, until stopped: 30s, 5m.")
    ] = None,
    timeout: TimeoutOption = None,
    keep_minutes: KeepOption = None,
    target: TargetOption = TargetKind.KUBERNETES,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    work: WorkOption = None,
    tracking: TrackingOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Bring what runs to what should run.

    Deploys what the alias names now, starts again what is gone, and takes away replaced versions
    whose time is over. A version that a rollback left, or that failed a moment ago, is left alone.
    Ends with 0 where nothing is left to do, 7 where the registry is away (what runs is left as it
    is), 31 where another deployer came first, 32 where a version never became ready.
    """
    from lapa.errors import ConfigError
    from lapactl.deploy_change import sync_once, watch
    from lapactl.deploy_places import Place, open_target, saying_what_is_here
    from lapactl.deploy_show import deployed
    from lapactl.jobs_target import seconds_of

    if is_all == bool(names):
        raise ConfigError("name the deployments to bring up to date, or say --all")
    end_cleanly()
    out, place = Output(output), Place(kind=target, cluster=cluster, namespace=namespace, state=state)
    every = seconds_of(interval)
    with saying_what_is_here(place, "sync" if names else "sync --all", names):
        found = open_target(place)

        def look() -> None:
            sync_once(
                out,
                found,
                names or deployed(found),
                _finder(config, work, tracking),
                seconds=seconds_of(timeout),
                keep_minutes=keep_minutes,
                is_brief=every is not None,
            )

        if every is None:
            look()
        else:
            watch(out, look, seconds=every)


@app.command(epilog='Example: lapactl deploy rollback lapa-policy --reason "drops the block"')
def rollback(
    name: NameArgument,
    to: Annotated[
        int | None, typer.Option("--to", metavar="VERSION", help="A version that ran here; the one before by default.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="WHY", help="Why; kept with the release.")] = "",
    timeout: TimeoutOption = None,
    keep_minutes: KeepOption = None,
    is_reconnecting: ReconnectOption = True,
    target: TargetOption = TargetKind.KUBERNETES,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Go back to what ran before.

    Asks neither the registry nor the profile: where the version is still warm, robots are sent to it
    at once, else it is started again from the deployment's own record. No sync goes forward to the
    version that was left, until it is deployed by name or the alias moves on.
    """
    from lapactl.deploy_change import roll_back
    from lapactl.deploy_places import Place, open_target, saying_what_is_here
    from lapactl.jobs_target import seconds_of

    end_cleanly()
    place = Place(kind=target, cluster=cluster, namespace=namespace, state=state)
    with saying_what_is_here(place, "rollback", [name]):
        roll_back(
            Output(output), open_target(place), name, version=to, reason=reason, seconds=seconds_of(timeout),
            keep_minutes=keep_minutes, is_reconnecting=is_reconnecting,
        )  # fmt: skip


@app.command(epilog="Example: lapactl deploy history lapa-policy")
def history(
    name: NameArgument,
    target: TargetOption = TargetKind.KUBERNETES,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """List what ran, newest first, by whom and why."""
    from lapactl.deploy_places import Place, open_target, saying_what_is_here
    from lapactl.deploy_show import print_history

    place = Place(kind=target, cluster=cluster, namespace=namespace, state=state)
    with saying_what_is_here(place, "history", [name]):
        print_history(Output(output), open_target(place), name)


@app.command(epilog="Example: lapactl deploy prune")
def prune(
    names: NamesArgument = None,
    target: TargetOption = TargetKind.KUBERNETES,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Take away replaced versions whose time is over, and what deployers that died left behind."""
    from lapactl.deploy_change import prune_all
    from lapactl.deploy_places import Place, open_target, saying_what_is_here

    place = Place(kind=target, cluster=cluster, namespace=namespace, state=state)
    with saying_what_is_here(place, "prune", names):
        found = open_target(place)
        prune_all(Output(output), found, names or found.names())


@app.command(epilog="Example: lapactl deploy delete lapa-policy --yes")
def delete(
    name: NameArgument,
    is_sure: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    target: TargetOption = TargetKind.KUBERNETES,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Stop a deployment's servers and forget its record."""
    from lapactl.confirm import confirm
    from lapactl.deploy_change import delete as remove
    from lapactl.deploy_change import require
    from lapactl.deploy_places import Place, open_target, options_of, saying_what_is_here

    place = Place(kind=target, cluster=cluster, namespace=namespace, state=state)
    with saying_what_is_here(place, "delete", [name]):
        found = open_target(place)
        require(found, name)
    if not is_sure:
        unasked = f"`lapactl deploy delete {name}{options_of(found)} --yes`"
        confirm(f"Robots that ask '{name}' will find nobody. Delete it?", unasked=unasked)
    remove(Output(output), found, name)


deploy_replay.register(app)


def _finder(config: str, work: str | None, tracking: str | None) -> "Finder":
    """What aliases mean; a registry whose very address is unusable is one that is away."""
    from lapa.errors import TrackingError
    from lapactl.deploy_pinned import finder

    try:
        return finder(open_registry(config, work, tracking))
    except TrackingError as error:
        return finder(None, str(error))
