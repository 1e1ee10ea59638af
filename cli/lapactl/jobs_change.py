"""`lapactl jobs cancel`, `suspend`, `resume` and `gc`: what changes jobs."""

from lapa_k8s.control import cancel, removable, remove, set_suspended
from lapa_k8s.pipeline_progress import cancel_pipeline, is_pipeline, unfinished_stages
from lapa_k8s.records import find_job
from lapactl.confirm import confirm
from lapactl.jobs_target import Target
from lapactl.jobs_tracking import withdrawn
from lapactl.output import Output


def cancel_job(out: Output, target: Target, name: str, *, is_sure: bool) -> None:
    job = find_job(target.cluster, target.namespace, name)
    if is_pipeline(job):
        _cancel_pipeline(out, target, name, is_sure=is_sure)
        return
    if not is_sure:
        confirm(f"Stop job '{name}' in namespace '{target.namespace}' and remove it?")
    with withdrawn(out, target, job):
        cancel(target.cluster, target.namespace, name)
    out.record({"job": name, "kind": job["kind"], "namespace": target.namespace, "deleted": True})
    out.hint("its ranks save before they stop; the same `lapactl submit` goes on from there")


def _cancel_pipeline(out: Output, target: Target, name: str, *, is_sure: bool) -> None:
    running = [job["metadata"]["name"] for job in unfinished_stages(target.cluster, target.namespace, name)]
    if not is_sure:
        stages = f", with {', '.join(running)} that it submitted," if running else ""
        confirm(f"Stop pipeline '{name}'{stages} in namespace '{target.namespace}'?")
    jobs = cancel_pipeline(target.cluster, target.namespace, name)
    stopped = [job["metadata"]["name"] for job in jobs]
    record = {"job": name, "kind": "Job", "namespace": target.namespace, "deleted": True, "stages": stopped}
    out.record(record)
    out.hint("what is made stays; the same `lapactl submit pipeline` goes on from there")


def suspend_job(out: Output, target: Target, name: str, *, is_suspended: bool) -> None:
    job = set_suspended(target.cluster, target.namespace, name, is_suspended=is_suspended)
    out.record({"job": name, "kind": job["kind"], "namespace": target.namespace, "suspended": is_suspended})
    back = "resume" if is_suspended else "suspend"
    out.hint(f"the other way round: `lapactl jobs {back} {name}{target.options}`")


def collect_garbage(out: Output, target: Target, *, older_than_seconds: int, is_sure: bool) -> None:
    found = removable(target.cluster, target.namespace, older_than_seconds=older_than_seconds)
    rows = [{"kind": item["kind"], "name": item["metadata"]["name"]} for item in found]
    if found and not is_sure:
        for row in rows:
            out.say(f"{row['kind']}/{row['name']}")
        confirm(f"Remove these {len(rows)}?")
    for item in found:
        with withdrawn(out, target, item):
            remove(target.cluster, target.namespace, item)
    out.rows(rows, columns=["kind", "name"])
    if not rows:
        out.hint("nothing to remove")
