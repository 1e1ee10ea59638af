"""`lapactl jobs logs`, `wait` and `exec`: what goes on for a while."""

import json
import sys
from collections.abc import Iterable
from itertools import chain

from lapa.errors import ConfigError
from lapa_k8s.base import Manifest
from lapa_k8s.errors import NotFound
from lapa_k8s.following import container_of, follow_logs, read_logs, wait_for_end
from lapa_k8s.log_lines import LogLine, is_of_rank, node_order
from lapa_k8s.records import find_job, job_pods, record_of
from lapa_k8s.states import state_of
from lapactl.jobs_target import Target
from lapactl.output import Output


def print_logs(
    out: Output,
    target: Target,
    name: str,
    *,
    is_following: bool,
    rank: int | None,
    since_seconds: int | None,
    tail: int | None,
    is_previous: bool,
) -> None:
    if is_following and is_previous:
        raise ConfigError("--previous is about the past: leave out --follow")
    where = (target.cluster, target.namespace, name)
    lines = (
        follow_logs(*where, since_seconds=since_seconds, tail=tail)
        if is_following
        else read_logs(*where, since_seconds=since_seconds, tail=tail, is_previous=is_previous)
    )
    shown = iter(line for line in lines if is_of_rank(line, rank))
    if (first := next(shown, None)) is None:
        out.hint(f"nothing was said; `lapactl jobs why {name}{target.options}` tells what it waits for")
        return
    print_lines(out, chain([first], shown))


def print_lines(out: Output, lines: Iterable[LogLine]) -> None:
    """As they come; in JSON one object per line, since a log has no end to close a list at."""
    for line in lines:
        if out.is_json:
            out.text(json.dumps({"time": line.time, "pod": line.pod, "rank": line.rank, "text": line.words}))
        else:
            out.text(line.text)
        sys.stdout.flush()


def wait_for(out: Output, target: Target, name: str, *, timeout_seconds: int | None) -> None:
    state = wait_for_end(
        target.cluster,
        target.namespace,
        name,
        timeout_seconds=timeout_seconds,
        on_change=lambda now: out.say(f"{now.state}: {now.reason}"),
    )
    out.record({"job": name, "state": str(state.state), "reason": state.reason})


def run_command(
    out: Output, target: Target, name: str, command: list[str], *, node: int | None, rank: int | None
) -> None:
    if node is not None and rank is not None:
        raise ConfigError("--node and --rank each say where: leave out one")
    job = find_job(target.cluster, target.namespace, name)
    pods = job_pods(target.cluster, target.namespace, name)
    record = record_of(job, state_of(job, pods), pods)
    place = node or 0 if rank is None else rank // int(record["processes_per_node"])
    if place >= record["nodes"]:
        asked = f"--node {node}" if rank is None else f"--rank {rank}"
        ranks = record["nodes"] * record["processes_per_node"]
        raise ConfigError(f"{asked}: job '{name}' has {record['nodes']} nodes and {ranks} ranks, counted from 0")
    pod = _running_pod(pods, place if record["nodes"] > 1 else None)
    if pod is None:
        raise NotFound(
            f"node {place} of job '{name}' has no running pod now: `lapactl jobs why {name}` says what it waits for"
        )
    chunks = target.cluster.execute(
        target.namespace, pod["metadata"]["name"], container=container_of(pod), command=command
    )
    if out.is_json:
        out.json({"job": name, "pod": pod["metadata"]["name"], "output": "".join(chunks)})
        return
    for chunk in chunks:
        sys.stdout.write(chunk)
        sys.stdout.flush()


def _running_pod(pods: Iterable[Manifest], node: int | None) -> Manifest | None:
    """A node's youngest, where an earlier one is still leaving; None asks for any, since a lone pod has no number."""
    running = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
    found = [pod for pod in running if node is None or node_order(pod["metadata"]["name"])[0] == node]
    return max(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), default=None)
