"""`python -m lapa_k8s.pipeline_driver PLAN.json`: what a pipeline's pod runs. See `lapa_k8s.pipeline`.

Holds nothing between two starts: it sends the first stage, finds that it is there already, waits for its end, and so
on. Exits with 0 when every stage has succeeded, with a code of `lapa_k8s.errors` where one has not, with 75 when told
to stop; `rendering/pipeline.py` says what each means to Kubernetes.
"""

import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lapa_k8s.client import Cluster
from lapa_k8s.errors import ClusterError
from lapa_k8s.following import wait_for_end
from lapa_k8s.names import STAGE_LABEL
from lapa_k8s.rendering.manifests import Submission
from lapa_k8s.rendering.pipeline import STOPPED_CODE
from lapa_k8s.states import FINAL_STATES
from lapa_k8s.submission import name_of, namespace_of, send

Say = Callable[[str], None]


def read_plan(path: Path) -> list[Submission]:
    return [Submission(**step) for step in json.loads(path.read_text(encoding="utf-8"))]


def drive(cluster: Cluster, plan: Sequence[Submission], *, say: Say) -> None:
    """Send the stages one after the other. Raises what sending one raises, and JobFailed or JobVanished at the first
    that does not succeed."""
    for number, manifests in enumerate(plan, start=1):
        stage = manifests.job["metadata"]["labels"][STAGE_LABEL]
        label = f"{stage} ({number} of {len(plan)})"
        sent = send(cluster, manifests)
        say(f"{label}: job {name_of(manifests)} {'submitted' if sent.is_new else f'is there, {sent.state.state}'}")
        _wait(cluster, manifests, label, say)
    say("every stage has succeeded")


def _wait(cluster: Cluster, manifests: Submission, label: str, say: Say) -> None:
    wait_for_end(
        cluster,
        namespace_of(manifests),
        name_of(manifests),
        on_change=lambda now: say(f"{label}: {now.state}" + ("" if now.state in FINAL_STATES else f", {now.reason}")),
    )


def main(arguments: Sequence[str]) -> int:
    # Python as a container's first process would otherwise not hear that it is told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED_CODE))
    try:
        drive(Cluster.connect(), read_plan(Path(arguments[0])), say=_say)
    except ClusterError as error:
        _say(f"error: {error}")
        return error.exit_code
    return 0


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
