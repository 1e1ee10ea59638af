"""`lapactl deploy replay`: what another version would have answered to what robots saw."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from lapactl.options import OutputOption, WorkOption
from lapactl.output import Output, OutputFormat
from lapactl.registry import DEFAULT_CONFIG, ConfigOption, TrackingOption, open_registry

TIMEOUT_SECONDS = 24 * 3600.0


def register(app: typer.Typer) -> None:
    """Add the verb to `lapactl deploy`."""
    app.command(epilog="Example: lapactl deploy replay s3://robots/recorded lapa-policy@candidate")(replay)


def replay(
    recording: Annotated[
        str,
        typer.Argument(
            metavar="RECORDING",
            help="What `lapactl serve BUNDLE --record` wrote; or a bundle that carries observations.",
        ),
    ],
    policy: Annotated[
        str, typer.Argument(metavar="POLICY", help="NAME[@ALIAS|/VERSION], its candidate by default; or a bundle.")
    ],
    tolerance: Annotated[
        float | None,
        typer.Option("--tolerance", min=0, help="Share of a dimension's range that may differ; 0.01 by default."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many observations.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; by default what is there.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    work: WorkOption = None,
    tracking: TrackingOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show how a version's actions would differ.

    It is asked what robots asked before; nothing is deployed. By dimension: mean and largest difference, in the robot's
    units and as a share of the range, and how much is beyond the tolerance; then the observations that differ most.
    """
    from lapa.config.serving import ReplayConfig
    from lapa.serving.recording_format import require_observations
    from lapactl.library import ask_library

    out = Output(output)
    require_observations(recording)
    bundle, digest = _bundle_of(policy, config, work, tracking)
    given = {"tolerance": tolerance, "limit": limit, "device": device}
    asked = ReplayConfig(
        recording=recording, bundle=bundle, expected_digest=digest,
        **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    out.say(f"replaying {recording} on {bundle} …")
    found = ask_library(["replay", "-", asked.model_dump_json()], timeout_seconds=TIMEOUT_SECONDS)
    if out.is_json:
        out.json(found)
        return
    _print(out, found)


def _bundle_of(policy: str, config: str, work: str | None, tracking: str | None) -> tuple[str, str]:
    """Where it lies, and the digest that it was registered with; a bundle that is named itself may be any."""
    from lapa import files
    from lapa.policy.manifest import MANIFEST_FILE
    from lapa.tracking.ledger import CANDIDATE
    from lapa.tracking.references import resolve

    if files.exists(files.join(policy, MANIFEST_FILE)):
        return policy, ""
    version = resolve(open_registry(config, work, tracking), policy, default=CANDIDATE)
    return version.url, version.digest


def _print(out: Output, found: Mapping[str, Any]) -> None:
    out.table([_shares(row) for row in found["dimensions"]], columns=tuple(_shares(found["dimensions"][0])))
    worst = [
        {
            "request": row["request_id"],
            "instruction": row["instruction"],
            "timestep": row["timestep"],
            "dimension": row["dimension"],
            "recorded": f"{row['recorded']:.4g}",
            "now": f"{row['now']:.4g}",
            "of range": f"{row['of_range']:.1%}",
        }
        for row in found["worst"]
    ]
    out.table(worst, columns=tuple(worst[0]))
    seen = f"{found['observations']} observations of {found['episodes']} episodes"
    out.say(
        f"{seen}: {found['share_beyond']:.1%} of the numbers differ by more than {found['tolerance']:.1%} of the "
        f"range, in {found['observations_beyond']:.1%} of the chunks."
    )
    if found["is_sampling"]:
        out.say("The policy samples its actions: a part of the difference is the noise that it draws each time.")


def _shares(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "dimension": row["dimension"],
        "mean": f"{row['mean']:.4g}",
        "largest": f"{row['max']:.4g}",
        "mean of range": f"{row['mean_of_range']:.2%}",
        "largest of range": f"{row['max_of_range']:.2%}",
        "beyond tolerance": f"{row['share_beyond']:.1%}",
    }
