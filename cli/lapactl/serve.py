"""`lapactl serve`: a policy bundle as a server that robots ask."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from lapactl.output import Output, OutputFormat


def register(app: typer.Typer) -> None:
    """Add the verb to the root."""
    app.command(epilog="Example: lapactl serve work/finetune-0123456789/policy --port 8000")(serve)


def serve(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Folder or URL of the policy bundle.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 for any free one, which the log tells.")
    ] = 8000,
    token_file: Annotated[
        str | None, typer.Option("--token-file", metavar="FILE", help="Accepted tokens, one a line.")
    ] = None,
    is_open: Annotated[bool, typer.Option("--insecure", help="Answer other machines without a token.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="The model's name, as replies give it.")] = None,
    version: Annotated[str | None, typer.Option("--version", help="Its version in the registry.")] = None,
    digest: Annotated[str | None, typer.Option("--digest", help="Serve only a bundle with this digest.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; by default what is there.")] = None,
    bounds: Annotated[
        str | None, typer.Option("--bounds", metavar="clamp|refuse", help="For actions outside the recorded range.")
    ] = None,
    image_key: Annotated[str | None, typer.Option("--image-key", help="Field that holds the policy's camera.")] = None,
    record: Annotated[
        str | None, typer.Option("--record", metavar="URL", help="Record observations and actions to this folder.")
    ] = None,
    robot: Annotated[
        Path | None, typer.Option("--robot", metavar="FILE", help="YAML: what the robot's actions mean.", exists=True)
    ] = None,
    settings: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, e.g. max_batch=8; repeatable.")
    ] = [],  # noqa: B006 (Typer copies defaults)
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings only.")] = False,
    output: Annotated[OutputFormat, typer.Option("--output", help="How --dry-run prints.")] = OutputFormat.TEXT,
) -> None:
    """Serve a policy to robots until stopped.

    openpi's websocket on /, POST /act, /healthz, /v2/health/live and ready, /metrics. The
    token comes from --token-file or LAPA_SERVER_TOKEN. SIGTERM drains: what is asked is
    answered, then sockets are closed with a code that says "connect again".
    """
    chosen: dict[str, Any] = {
        "bundle": bundle, "host": host, "port": port, "token_file": token_file, "is_open": is_open, "name": name,
        "version": version, "expected_digest": digest, "device": device, "bounds": bounds, "image_key": image_key,
        "record": record, "robot": robot and _conventions(robot),
    }  # fmt: skip
    config = resolve({key: value for key, value in chosen.items() if value is not None}, settings)
    if is_dry:
        Output(output).record(config.model_dump(mode="json"))
        return
    from lapa.process import own_program
    from lapa.serving.access import load_tokens

    load_tokens(config)  # a mistake is told now, not when torch has loaded
    # In place of this process: signals reach the server itself, and its exit code is the command's.
    command = own_program("lapa", "serve", "-", config.model_dump_json())
    os.execv(command[0], command)


def _conventions(file: Path) -> Any:
    """Plain values, as a dataset's `conventions` has them. Raises ConfigError where the file is no YAML."""
    import yaml

    from lapa.errors import ConfigError

    try:
        return yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML: {error}") from None


def resolve(chosen: dict[str, Any], settings: list[str]) -> Any:
    """The server's settings. Raises ConfigError, which lists every problem."""
    from pydantic import ValidationError

    from lapa.config.load import parse_override
    from lapa.config.serving import ServingConfig
    from lapa.errors import ConfigError

    try:
        return ServingConfig.model_validate({**chosen, **dict(parse_override(item) for item in settings)})
    except ValidationError as error:
        problems = [f"  {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        known = ", ".join(ServingConfig.model_fields)
        raise ConfigError(
            "\n".join(["the server's settings are not valid:", *problems, f"Settings: {known}."])
        ) from None
