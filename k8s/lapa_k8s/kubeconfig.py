"""What of the kubeconfig must be known without a cluster."""

import os
from pathlib import Path
from typing import Any

import yaml

FALLBACK_NAMESPACE = "default"


def context_namespace(context: str | None) -> str:
    """The namespace of a context, the current one by default; `default` where the kubeconfig says nothing."""
    configs = [_read(path) for path in kubeconfig_files()]
    wanted = context or next((config["current-context"] for config in configs if config.get("current-context")), None)
    for config in configs:
        for entry in config.get("contexts") or []:
            if entry.get("name") == wanted:
                return str((entry.get("context") or {}).get("namespace") or FALLBACK_NAMESPACE)
    return FALLBACK_NAMESPACE


def kubeconfig_files() -> list[Path]:
    """The files that exist, as kubectl looks for them."""
    named = os.environ.get("KUBECONFIG")
    paths = [Path(part) for part in named.split(os.pathsep) if part] if named else [Path.home() / ".kube" / "config"]
    return [path for path in paths if path.is_file()]


def _read(path: Path) -> dict[str, Any]:
    # A damaged file is told by the client, which must read all of it.
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
