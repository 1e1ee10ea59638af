"""A job's logs and its end, as they come; both outlive broken connections."""

import queue
import threading
import time
from collections.abc import Callable, Iterator

from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster, StreamExpired
from lapa_k8s.errors import (
    ClusterError,
    ClusterUnreachable,
    JobFailed,
    JobVanished,
    ManifestRefused,
    NotFound,
    WaitedTooLong,
)
from lapa_k8s.kinds import POD, kind_of
from lapa_k8s.log_lines import LogLine, merge_lines, parse_line
from lapa_k8s.records import find_job, job_pods
from lapa_k8s.states import FINAL_STATES, JobState, State, state_of

POLL_SECONDS = 2.0
WATCH_SECONDS = 15.0
PATIENCE_SECONDS = 600.0
"""How long an unreachable server is asked again before the command gives up."""


def read_logs(
    cluster: Cluster,
    namespace: str,
    name: str,
    *,
    since_seconds: int | None = None,
    tail: int | None = None,
    is_previous: bool = False,
) -> Iterator[LogLine]:
    """What the pods have said, merged by time. Pods that never started are passed over."""
    find_job(cluster, namespace, name)

    def lines(pod: Manifest) -> Iterator[LogLine]:
        own = pod["metadata"]["name"]
        try:
            for line in cluster.logs(
                namespace,
                own,
                container=container_of(pod),
                since_seconds=since_seconds,
                tail=tail,
                is_previous=is_previous,
            ):
                yield parse_line(own, line)
        except (ManifestRefused, NotFound):  # the container has not started, or has no earlier life
            return

    return merge_lines(lines(pod) for pod in job_pods(cluster, namespace, name))


def follow_logs(
    cluster: Cluster, namespace: str, name: str, *, since_seconds: int | None = None, tail: int | None = None
) -> Iterator[LogLine]:
    """What the pods say, as they say it, until the job ends. Raises JobVanished where it is deleted meanwhile.

    A thread per pod reads its stream and opens it again where it broke off, from the last line's time on; pods that
    come later, restarts included, are taken up as they appear.
    """
    find_job(cluster, namespace, name)  # never there is another error than gone
    lines: queue.Queue[LogLine] = queue.Queue()
    stop = threading.Event()
    readers: dict[str, threading.Thread] = {}
    ended_at: float | None = None
    try:
        while True:
            _, state = _current(cluster, namespace, name)
            for pod in job_pods(cluster, namespace, name):
                uid = pod["metadata"]["uid"]
                if uid not in readers and (pod.get("status") or {}).get("phase") not in (None, "Pending"):
                    follower = _PodFollower(cluster, namespace, pod, lines, stop, since_seconds, tail)
                    readers[uid] = threading.Thread(target=follower.run, daemon=True)
                    readers[uid].start()
            deadline = time.monotonic() + POLL_SECONDS
            while (left := deadline - time.monotonic()) > 0:
                try:
                    yield lines.get(timeout=left)
                except queue.Empty:
                    break
            if state.state in FINAL_STATES:
                ended_at = ended_at or time.monotonic()
                is_drained = lines.empty() and not any(reader.is_alive() for reader in readers.values())
                if is_drained or time.monotonic() - ended_at > 30:
                    return
    finally:
        stop.set()


class _PodFollower:
    """Reads one pod's stream into a queue until the pod has ended."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        pod: Manifest,
        lines: "queue.Queue[LogLine]",
        stop: threading.Event,
        since_seconds: int | None,
        tail: int | None,
    ) -> None:
        self._cluster, self._namespace, self._lines, self._stop = cluster, namespace, lines, stop
        self._pod, self._container = pod["metadata"]["name"], container_of(pod)
        self._since_seconds, self._tail = since_seconds, tail
        self._last = ""

    def run(self) -> None:
        failing_since: float | None = None
        while not self._stop.is_set():
            try:
                has_ended = self._has_ended()  # asked before reading: what it said until its end is read after it
                self._read()
                failing_since = None
                if has_ended:
                    return
            except NotFound:
                return
            except ClusterError:  # the main thread asks for the job all the while, and tells when that fails for good
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > PATIENCE_SECONDS:
                    return
            self._stop.wait(1)

    def _read(self) -> None:
        # `sinceTime` counts in whole seconds, so lines of the last second come again: those are dropped.
        is_again = bool(self._last)
        for text in self._cluster.logs(
            self._namespace,
            self._pod,
            container=self._container,
            is_following=True,
            since=f"{self._last[:19]}Z" if is_again else None,
            since_seconds=None if is_again else self._since_seconds,
            tail=None if is_again else self._tail,
        ):
            line = parse_line(self._pod, text)
            if line.time and line.time <= self._last:
                continue
            self._last = line.time or self._last
            self._lines.put(line)
            if self._stop.is_set():
                return

    def _has_ended(self) -> bool:
        pod = self._cluster.get(POD, self._namespace, self._pod)
        return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def container_of(pod: Manifest) -> str:
    """The container that trains, whatever the operator calls it."""
    annotations = pod["metadata"].get("annotations") or {}
    default = annotations.get("kubectl.kubernetes.io/default-container")
    return str(default or pod["spec"]["containers"][0]["name"])


def wait_for_end(
    cluster: Cluster,
    namespace: str,
    name: str,
    *,
    timeout_seconds: float | None = None,
    on_change: Callable[[JobState], None] = lambda _: None,
) -> JobState:
    """The job's last state. Raises JobFailed, JobVanished, WaitedTooLong.

    Wakes up when the job changes, and every so often to look at its pods, whose changes need not be the job's.
    """
    find_job(cluster, namespace, name)
    started = time.monotonic()
    last: JobState | None = None
    while True:
        job, state = _current(cluster, namespace, name)
        if state != last:
            on_change(state)
            last = state
        if state.state is State.SUCCEEDED:
            return state
        if state.state is State.FAILED:
            raise JobFailed(f"job '{name}' failed: {state.reason}. See `lapactl jobs digest {name}`")
        left = WATCH_SECONDS if timeout_seconds is None else timeout_seconds - (time.monotonic() - started)
        if left <= 0:
            raise WaitedTooLong(
                f"job '{name}' is {state.state} after {timeout_seconds:.0f} s: {state.reason}. It goes on; "
                f"see `lapactl jobs why {name}`, or wait longer with --timeout"
            )
        _sleep_until_change(cluster, job, min(left, WATCH_SECONDS))


def _sleep_until_change(cluster: Cluster, job: Manifest, seconds: float) -> None:
    """Until the job is another than this, or the time is over.

    A server forgets versions: all from before its start, and those that etcd compacted, minutes old. Without a
    version it first tells the object as it is. Where no watch stays open at all, the job is looked at now and then.
    """
    deadline = time.monotonic() + seconds
    metadata = job["metadata"]
    known = str(metadata["resourceVersion"])
    for version in (known, ""):
        try:
            changes = cluster.watch(
                kind_of(job), metadata["namespace"], metadata["name"], version=version, seconds=max(round(seconds), 1)
            )
            if any((seen.get("metadata") or {}).get("resourceVersion") != known for _, seen in changes):
                return
            break
        except StreamExpired:
            continue
        except ClusterUnreachable:
            break
    time.sleep(max(min(POLL_SECONDS, deadline - time.monotonic()), 0))


def _current(cluster: Cluster, namespace: str, name: str) -> tuple[Manifest, JobState]:
    """The job and its state now; an unreachable server is asked again for a while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            job = find_job(cluster, namespace, name)
            return job, state_of(job, job_pods(cluster, namespace, name))
        except NotFound:
            raise JobVanished(
                f"job '{name}' is no longer in namespace '{namespace}': deleted, or kept long enough. "
                "What it saved is in its work folder; the same submission continues there"
            ) from None
        except ClusterUnreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
