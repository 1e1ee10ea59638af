"""`lapactl export`: a finetuned policy as one verified bundle, registered."""

from typing import TYPE_CHECKING, Annotated

import typer

from lapactl.options import OutputOption, WorkOption
from lapactl.output import Output, OutputFormat
from lapactl.registry import (
    DEFAULT_CONFIG,
    ConfigOption,
    TrackingOption,
    open_records,
    open_registry,
    registry_run,
    say_candidate,
)

if TYPE_CHECKING:
    from lapa.promotion.bundles import FoundPolicy


def register(app: typer.Typer) -> None:
    """Add the verb to the root."""
    app.command(epilog="Example: lapactl export work/finetune-0123456789 s3://robots/policies/red-block")(export)


def export(
    source: Annotated[
        str,
        typer.Argument(metavar="FOLDER|PRESET|RUN.YAML", help="A finetune folder, a bundle, or the run that made it."),
    ],
    url: Annotated[str, typer.Argument(metavar="URL", help="An empty folder: local, s3://…, any fsspec URL.")],
    name: Annotated[str, typer.Option("--name", help="Registered model.")] = "lapa-policy",
    is_registered: Annotated[
        bool, typer.Option("--register/--no-register", help="Register the bundle as a version.")
    ] = True,
    is_candidate: Annotated[
        bool, typer.Option("--candidate/--no-candidate", help="Give the version the alias `candidate`.")
    ] = True,
    config: ConfigOption = DEFAULT_CONFIG,
    work: WorkOption = None,
    tracking: TrackingOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Copy a policy's bundle to object storage, read it back, and register it.

    The weights go straight to URL; MLflow gets the manifest, the lineage and the evaluations
    that lie beside the run. A version is registered only after every file was read back.
    Repeat the command after a failure: it goes on. Where `candidate` leaves another version
    for this one, both are named.
    """
    from lapa.promotion.bundles import export as copy_bundle
    from lapa.promotion.bundles import find_policy
    from lapa.promotion.bundles import register as register_bundle

    out = Output(output)
    found = find_policy(source, work_url=registry_run(config, work, tracking).work_url)
    exported = copy_bundle(found, url, progress=out.say)
    told = {"source": found.folder, "run": found.run, "stage": found.stage}
    done = {**told, "url": exported.url, "digest": exported.digest, "files": exported.files, "bytes": exported.bytes}
    if not exported.has_recorded:
        out.warn("it carries no recorded observations to replay where it is served; a policy finetuned anew does")
    if not is_registered:
        out.record(done)
        return
    registry, records = open_registry(config, work, tracking), open_records(config, work, tracking)
    made = register_bundle(registry, records, found, exported, name=name, candidate=is_candidate)
    version = made.version
    out.record(
        {
            "model": version.name,
            "version": version.version,
            "aliases": list(version.aliases),
            "candidate_before": made.candidate_before,
            **done,
        }
    )
    out.say(f"exported {_words(found)} as {version.name}/{version.version}")
    if is_candidate:
        say_candidate(out, version, made.candidate_before)
    if not found.evaluations:
        out.warn("no closed-loop evaluation lies beside it, so the success gates will refuse it: evaluate it first")
    out.hint(f"judge it with `lapactl promote {version.name}/{version.version} --to production`")


def _words(found: "FoundPolicy") -> str:
    return f"{found.folder} (stage {found.stage} of run '{found.run}')" if found.run else found.folder
