"""A STAND-IN for the operators: ends every job of ours on a real API server, since no kubelet and no operator runs
there. It says what an operator would say in the job's status, and nothing about pods; `training_operator` is the one
that makes pods.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from lapa_k8s.client import Cluster
from lapa_k8s.errors import NotFound
from lapa_k8s.kinds import kind_of
from lapa_k8s.names import STAGE_LABEL
from lapa_k8s.pipeline import PIPELINE
from lapa_k8s.records import list_jobs
from lapa_k8s.states import FINAL_STATES

SUCCESS = {"PyTorchJob": "Succeeded", "TrainJob": "Complete", "Job": "Complete"}


class OperatorStandIn:
    """Ends jobs in the order in which it meets them, and remembers it."""

    def __init__(self, cluster: Cluster, namespace: str, *, failing: tuple[str, ...] = ()) -> None:
        self._cluster, self._namespace, self._failing = cluster, namespace, failing
        self.ended: list[str] = []
        """Stages, in the order in which they ended."""
        self.at_once = 0
        """Most jobs that were going on at the same time."""

    def work(self) -> None:
        """One look at the jobs of stages; pipelines are left to their driver."""
        jobs = [
            item.job
            for item in list_jobs(self._cluster, self._namespace)
            if item.state.state not in FINAL_STATES and item.job["metadata"]["labels"][STAGE_LABEL] != PIPELINE
        ]
        self.at_once = max(self.at_once, len(jobs))
        for job in jobs:
            stage = job["metadata"]["labels"][STAGE_LABEL]
            ended = "Failed" if stage in self._failing else SUCCESS[job["kind"]]
            now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            words = {"reason": "StandIn", "message": f"{stage} ended", "lastTransitionTime": now}
            condition = {"type": ended, "status": "True", **words}
            change = {"status": {"conditions": [condition]}}
            self._cluster.patch(kind_of(job), self._namespace, job["metadata"]["name"], change, part="status")
            self.ended.append(stage)


@contextmanager
def running_stand_in(cluster: Cluster, namespace: str, *, failing: tuple[str, ...] = ()) -> Iterator[OperatorStandIn]:
    """Looks at the jobs several times a second, until the block ends."""
    stand_in, stop = OperatorStandIn(cluster, namespace, failing=failing), threading.Event()

    def loop() -> None:
        while not stop.wait(0.2):
            with suppress(NotFound):  # a job that is deleted under its hands
                stand_in.work()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stop.set()
        thread.join(timeout=30)
