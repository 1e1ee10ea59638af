"""`lapactl config show --origin`: every setting of a submission, and who said it."""

from collections.abc import Mapping, Sequence
from typing import Any

from lapactl.output import Output
from lapactl.submit_settings import CLUSTER_PREFIX, leaves, resolve_settings


def print_origins(out: Output, source: str, cluster: str | None, overrides: Sequence[str]) -> None:
    settings = resolve_settings(source, cluster=cluster, overrides=overrides)
    rows = [
        *_rows("", settings.run.model_dump(mode="json"), settings.run_origins),
        *_rows(CLUSTER_PREFIX, settings.cluster.model_dump(mode="json"), settings.cluster_origins),
    ]
    out.rows(rows, columns=["setting", "value", "origin"])


def _rows(prefix: str, values: Mapping[str, Any], origins: Mapping[str, str]) -> list[dict[str, Any]]:
    found = leaves(values).items()
    return [{"setting": f"{prefix}{path}", "value": value, "origin": origins[path]} for path, value in found]
