"""`lapactl models show|lineage|verify|diff`: one registered version, what is behind it, and whether it is whole."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lapactl.deploy_options import NamespaceOption, StateOption
from lapactl.options import OutputOption, WorkOption
from lapactl.output import Output, OutputFormat
from lapactl.registry import DEFAULT_CONFIG, ConfigOption, ModelArgument, TrackingOption, open_registry

if TYPE_CHECKING:
    from lapa.promotion.lineage import Origin
    from lapa.tracking.registry import Registry
    from lapactl.models_deployed import Looked


def register(app: typer.Typer) -> None:
    """Add the verbs to `lapactl models`."""
    app.command(epilog="Example: lapactl models show lapa-policy@production")(show)
    app.command(epilog="Example: lapactl models lineage --contains s3://robots/datasets/kitchen")(lineage)
    app.command(epilog="Example: lapactl models verify lapa-policy@production")(verify)
    app.command(epilog="Example: lapactl models diff lapa-policy@production lapa-policy@candidate")(diff)


def show(
    model: ModelArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    work: WorkOption = None,
    tracking: TrackingOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show all that is on record about a version: evaluations, gates, approvals, promotions."""
    from lapa.promotion.describe import describe
    from lapa.tracking.references import resolve

    out = Output(output)
    registry = open_registry(config, work, tracking)
    described = describe(registry, resolve(registry, model))
    if out.is_json:
        out.json(described)
        return
    tables = ("evaluations", "promotions", "approvals")
    apart = (*tables, "gates", "metrics", "inputs", "forced", "warnings")
    out.record({name: value for name, value in described.items() if name not in apart})
    for title in ("gates", "metrics"):
        if described[title]:
            out.table([{title[:-1]: k, "value": v} for k, v in described[title].items()], columns=[title[:-1], "value"])
    columns = {
        "evaluations": ["benchmark", "simulator", "episodes", "success_rate", "finished"],
        "promotions": ["number", "kind", "version", "replaces", "who", "reason", "forced"],
        "approvals": ["who", "reason", "when"],
    }
    for title in tables:
        if described[title]:
            out.table(described[title], columns=columns[title])
    for warning in described["warnings"]:
        out.warn(warning)


def lineage(
    model: Annotated[
        str, typer.Argument(metavar="NAME[@ALIAS|/VERSION]", help="A registered model; its candidate by default.")
    ] = "lapa-policy",
    contains: Annotated[
        str | None,
        typer.Option(
            "--contains",
            metavar="DIGEST|URL|NAME",
            help="List the versions that this is behind, and the deployments that serve them, instead.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="NAME", help="Profile of the cluster whose deployments count too."),
    ] = None,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    with_files: Annotated[bool, typer.Option("--files", help="Also list the source files of every dataset.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    work: WorkOption = None,
    tracking: TrackingOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show what a model was made from, or which models and deployments a dataset is in.

    Policy, pretraining, labels, latent-action model, datasets, source files. With --contains also
    the deployments of this machine, and of the cluster that a profile names; what could not be
    looked at is said.
    """
    from lapa.errors import ConfigError
    from lapa.promotion.lineage import lineage as trace
    from lapa.tracking.references import resolve

    out = Output(output)
    if contains is None and (unused := _named({"--cluster": cluster, "--namespace": namespace, "--state": state})):
        raise ConfigError(f"{unused} says where deployments are looked for, which only --contains DATASET does")
    registry = open_registry(config, work, tracking)
    if contains is not None:
        from lapactl.models_deployed import look

        _containing(out, registry, contains, look(cluster, namespace, state))
        return
    origin = trace(registry, resolve(registry, model))
    files = _source_files(origin) if with_files else {}
    if out.is_json:
        out.json(origin.plain() | ({"source_files": files} if with_files else {}))
        return
    _draw(out, origin, "", set())
    for digest, names in files.items():
        out.text(f"source files of dataset {digest}:")
        for name in names:
            out.text(f"  {name}")


def verify(
    model: Annotated[
        str, typer.Argument(metavar="NAME[@ALIAS|/VERSION]|URL", help="A registered model, or a bundle's folder.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    work: WorkOption = None,
    tracking: TrackingOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Read a model's files and compare them with the registered digest, a policy's with its manifest."""
    from lapa import files
    from lapa.policy.manifest import MANIFEST_FILE, bundle_files, verify_bundle
    from lapa.promotion.verify import verify_version
    from lapa.tracking.references import resolve

    out = Output(output)
    if files.exists(files.join(model, MANIFEST_FILE)):
        url, digest = model, verify_bundle(model, progress=out.say)
        sizes = bundle_files(url)
    else:
        version = resolve(open_registry(config, work, tracking), model)
        url, digest = version.url, version.digest
        sizes = verify_version(version, progress=out.say)
    out.record({"url": url, "digest": digest, "files": len(sizes), "bytes": sum(sizes.values()), "whole": True})


def diff(
    first: ModelArgument,
    second: ModelArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    work: WorkOption = None,
    tracking: TrackingOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show what two versions differ in: settings, inputs, metrics, actions, licences."""
    from lapa.promotion.describe import difference
    from lapa.tracking.references import resolve

    registry = open_registry(config, work, tracking)
    one, other = resolve(registry, first), resolve(registry, second)
    rows = difference(one, other)
    out = Output(output)
    out.rows(rows, columns=["what", "first", "second"])
    if not rows:
        out.say(f"{one.name}/{one.version} and {other.name}/{other.version} are the same")


def _named(options: dict[str, str | None]) -> str:
    """The first option that was given."""
    return next((option for option, value in options.items() if value is not None), "")


def _containing(out: Output, registry: "Registry", what: str, looked: "Looked") -> None:
    from lapa.promotion.lineage import containing
    from lapactl.models_deployed import COLUMNS as DEPLOYED_COLUMNS
    from lapactl.models_deployed import rows_of

    versions = containing(registry, what)
    looked.note_unknown(lambda digest: any(version.inputs for version in registry.holding(digest)))
    rows = [
        {
            "model": found.version.name,
            "version": found.version.version,
            "aliases": list(found.version.aliases),
            "as": " ← ".join(found.path),
            "url": found.version.url,
            "deployments": rows_of(looked.serving([found.version.digest])),
            "not_looked_at": looked.unseen,
        }
        for found in versions
    ]
    out.rows(rows, columns=["model", "version", "aliases", "as", "url"])
    if not rows:
        out.hint(f"no registered version names {what}; a digest needs its first 6 characters, a URL must be exact")
    deployed = rows_of(looked.serving([found.version.digest for found in versions]))
    if deployed and not out.is_json:
        out.table(deployed, columns=DEPLOYED_COLUMNS)
    elif rows and not deployed:
        out.say("no deployment that was looked at serves one of these")
    for unseen in looked.unseen:
        out.warn(unseen)


def _draw(out: Output, origin: "Origin", indent: str, drawn: set[str]) -> None:
    version, info = origin.version, origin.dataset
    name = f" {version.name}/{version.version}" if version is not None and version.name != origin.role else ""
    number = f"/{version.version}" if version is not None and version.name == origin.role else ""
    out.text(f"{indent}{origin.role}{number}{name}  {origin.digest[:12]}  {origin.url}")
    if origin.digest in drawn:
        return  # what is behind it was shown where it first came up
    drawn.add(origin.digest)
    if info is not None:
        licences = ", ".join(f"{licence} {count}" for licence, count in info.licences.items())
        source = info.source.get("url") or info.source.get("kind", "")
        out.text(f"{indent}  {info.num_episodes} episodes, {licences}, from {source}")
    if origin.gap:
        out.text(f"{indent}  ? {origin.gap}")
    for earlier in origin.inputs:
        _draw(out, earlier, indent + "  ", drawn)


def _source_files(origin: "Origin") -> dict[str, Any]:
    from lapa.promotion.lineage import source_files

    datasets = {found.digest: found.url for found in origin.walk() if found.dataset is not None}
    return {digest: source_files(url) for digest, url in datasets.items()}
