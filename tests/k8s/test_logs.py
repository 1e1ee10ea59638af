"""Logs of many ranks as one, what they say about a failure, and following them through broken streams."""

import json
import re
import threading
import time

import pytest
from cluster_objects import NAME, job, pod
from fake_api import FakeApi, status

from lapa_k8s import following
from lapa_k8s.client import Cluster
from lapa_k8s.digest import digest_of
from lapa_k8s.errors import JobFailed, JobVanished, WaitedTooLong
from lapa_k8s.following import follow_logs, read_logs, wait_for_end
from lapa_k8s.log_lines import LogLine, merge_lines, node_order, parse_line
from lapa_k8s.names import JOB_LABEL, MANAGED_LABELS
from lapa_k8s.states import JobState, State

GENEROUS_SECONDS = 300
JOBS = "/apis/kubeflow.org/v1/namespaces/team/pytorchjobs"
PODS = "/api/v1/namespaces/team/pods"
LABELS = {**MANAGED_LABELS, JOB_LABEL: NAME}

FAILURE = """\
2026-01-01T00:00:01.1Z [rank0]: 2026-01-01 INFO rank=0 lapa stage=pretrain step=1200 loss=0.5
2026-01-01T00:00:02.1Z [rank9]: Traceback (most recent call last):
2026-01-01T00:00:02.2Z [rank9]:   File "fit.py", line 3, in fit
2026-01-01T00:00:02.3Z [rank0]: Traceback (most recent call last):
2026-01-01T00:00:02.4Z [rank9]:     engine.backward(loss)
2026-01-01T00:00:02.5Z [rank9]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB
2026-01-01T00:00:02.6Z [rank0]: torch.distributed.DistBackendError: Watchdog caught collective operation timeout
2026-01-01T00:00:03.0Z E torchelastic: failed (exitcode: 1)""".splitlines()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(following, "WATCH_SECONDS", 1.0)


def put_job(api: FakeApi, **conditions: str) -> None:
    manifest = job(conditions=conditions)
    api.put(f"{JOBS}/{NAME}", {**manifest, "metadata": {**manifest["metadata"], "name": NAME, "namespace": "team"}})


def put_pod(api: FakeApi, index: int, lines: list[str], **state) -> None:
    item = pod(index, **state)
    item["metadata"] |= {"labels": LABELS}
    api.logs[item["metadata"]["name"]] = lines  # first: a pod that has ended says no more
    api.put(f"{PODS}/{item['metadata']['name']}", item)


def test_a_line_tells_its_rank_and_time():
    line = parse_line("w-1", "2026-01-01T00:00:00.5Z [rank12]: step=3 loss=1")
    assert line == LogLine("2026-01-01T00:00:00.5Z", "w-1", 12, "step=3 loss=1")
    assert line.text == "[rank 12] step=3 loss=1"
    assert parse_line("w-1", "2026-01-01T00:00:00.5Z E torchelastic failed").text == "[w-1] E torchelastic failed"
    assert parse_line("w-1", "Traceback (most recent call last):").words == "Traceback (most recent call last):"


def test_logs_are_merged_by_time_and_each_pod_keeps_its_order():
    one = [LogLine(f"2026-01-01T00:00:0{second}Z", "a", 0, str(second)) for second in (1, 3, 5)]
    two = [LogLine(f"2026-01-01T00:00:0{second}Z", "b", 8, str(second)) for second in (2, 3, 4)]
    assert [line.words for line in merge_lines([one, two])] == ["1", "2", "3", "3", "4", "5"]


def test_pods_are_counted_not_spelt():
    names = [f"{NAME}-worker-{index}" for index in (10, 9, 0)]
    assert sorted(names, key=node_order) == list(reversed(names))
    assert node_order("x-node-0-3-abcde")[0] == 3


def test_a_digest_names_the_first_rank_that_failed_and_what_it_was():
    first = {"exitCode": 1, "finishedAt": "2026-01-01T00:00:03Z"}
    digest = digest_of([pod(0), pod(1, ended=first, restarts=1)], [parse_line("w", line) for line in FAILURE])
    assert digest.rank == 9
    assert digest.error == "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    assert digest.kind == "GPU memory ran out"
    assert digest.last_step == 1200
    assert "engine.backward(loss)" in digest.traceback[2]
    assert [ending.exit_code for ending in digest.endings] == [1]


def test_a_lost_peer_is_told_as_an_effect_and_gives_way_to_a_cause():
    lost = "[rank0]: RuntimeError: [gloo/transport/tcp/pair.cc:537] Read error [10.0.0.7]:1: Connection reset by peer"
    cause = "[rank1]: torch.OutOfMemoryError: CUDA out of memory"
    assert digest_of([], [parse_line("w", lost)]).kind == "a rank lost its peer, which stopped before"
    assert digest_of([], [parse_line("w", line) for line in (lost, cause)]).kind == "GPU memory ran out"
    assert digest_of([], [parse_line("w", line) for line in (lost, REFUSED)]).kind == "the object store refused"


@pytest.mark.parametrize(
    "said",
    [
        "PermissionError: Forbidden",
        "PermissionError: The access key ID you provided does not exist in our records.",
        "AccessRefused: s3://videos/run.yaml may not be used (Forbidden). Check the credentials and their rights",
        "DataError: s3://videos/0.tar cannot be read: PermissionError: Access Denied. Check this job's credentials",
    ],
)
def test_a_store_that_refuses_is_told_in_words(said):
    digest = digest_of([], [parse_line("w", line) for line in ("Traceback (most recent call last):", said)])
    assert (digest.kind, digest.error) == ("the object store refused", said)


def test_an_error_that_a_user_can_mend_has_no_traceback_and_its_rank_and_remedy_are_told_all_the_same():
    said = "AccessRefused: s3://videos/dataset.json may not be used (Forbidden)"
    lines = [parse_line("w-1", f"[rank1]: {said}"), parse_line("w-0", f"[rank0]: {said}")]
    digest = digest_of([pod(0, ended={"exitCode": 3, "finishedAt": "x"}, restarts=1)], lines)
    assert (digest.rank, digest.pod, digest.error, digest.traceback) == (1, "w-1", said, ())
    assert "storage.secret" in digest.remedy, "not what exit code 3 says of datasets"


WARNED = "[rank1]: 2026-01-01 WARNING lapa AccessDenied while reading s3://videos/1.tar, trying again"
REFUSED = "[rank1]: PermissionError: Forbidden"
RAISE_MEMORY = "raise gpu_node.memory_gib"


@pytest.mark.parametrize(
    ("said", "ended", "kind", "remedy"),
    [
        (WARNED, {"exitCode": 137, "reason": "OOMKilled"}, None, RAISE_MEMORY),
        (REFUSED, {"exitCode": 137, "reason": "OOMKilled"}, "the object store refused", RAISE_MEMORY),
        (WARNED, {"exitCode": 2}, None, "correct it"),
        (REFUSED, {"exitCode": 3}, "the object store refused", "storage.secret"),
        (WARNED, None, None, ""),
        (REFUSED, None, "the object store refused", ""),
    ],
)
def test_what_a_rank_says_in_passing_is_not_why_a_job_failed(said: str, ended: dict | None, kind: str | None, remedy):
    pods = [pod(0, ended={**ended, "finishedAt": "x"}, restarts=1)] if ended else [pod(0)]
    digest = digest_of(pods, [parse_line("w", said)])
    assert digest.kind == kind
    assert remedy in digest.remedy and bool(remedy) == bool(digest.remedy)


def test_without_logs_a_digest_reads_the_last_words_of_the_pods():
    end = {"exitCode": 2, "finishedAt": "x", "message": "ConfigError: laq.fit.stepz: unknown key"}
    digest = digest_of([pod(0, phase="Failed", ended=end)], [])
    assert digest.error == "ConfigError: laq.fit.stepz: unknown key"
    assert digest.endings[0].meaning == "a setting is impossible"


def test_an_error_that_was_made_of_another_is_told_with_it():
    words = [
        "Traceback (most recent call last):", '  File "a.py", line 1, in read', "ClientError: 403", "",
        "The above exception was the direct cause of the following exception:", "",
        "Traceback (most recent call last):", '  File "b.py", line 2, in main', "PermissionError: Forbidden",
        "event=stopped", "Traceback (most recent call last):", "ValueError: of another story",
    ]  # fmt: skip
    lines = [parse_line("w", f"2026-01-01T00:00:{second:02d}Z [rank0]: {text}") for second, text in enumerate(words)]
    digest = digest_of([], lines)
    assert digest.error == "PermissionError: Forbidden"
    assert digest.traceback == tuple(words[:9])


def test_of_a_failed_job_whose_pods_are_gone_the_digest_says_so():
    assert "its pods are gone" in digest_of([], [], has_failed=True).remedy
    assert digest_of([], []).remedy == ""


def test_logs_of_all_pods_come_as_one(fake_api: FakeApi, cluster: Cluster):
    put_job(fake_api)
    put_pod(fake_api, 0, FAILURE[:1])
    put_pod(fake_api, 1, FAILURE[1:3])
    assert [line.rank for line in read_logs(cluster, "team", NAME)] == [0, 9, 9]


def test_following_ends_with_the_job_and_tells_every_line_once(fake_api: FakeApi, cluster: Cluster):
    put_job(fake_api)
    put_pod(fake_api, 0, FAILURE[:3])

    def later() -> None:
        while sum(path.endswith("/log") for _, path, _ in list(fake_api.requests)) < 2:
            time.sleep(0.02)  # the stream has ended once, and was opened again
        put_pod(fake_api, 0, FAILURE, phase="Succeeded")
        put_job(fake_api, Succeeded="done")

    threading.Thread(target=later, daemon=True).start()
    told = [line.words for line in follow_logs(cluster, "team", NAME)]
    assert told == [parse_line("w", line).words for line in FAILURE]
    opened = [query for method, path, query in fake_api.requests if path.endswith("/log")]
    assert len(opened) > 1
    assert opened[-1]["sinceTime"] == "2026-01-01T00:00:02Z" or opened[-1]["sinceTime"] == "2026-01-01T00:00:03Z"


def test_following_goes_on_when_the_server_comes_back(fake_api: FakeApi, cluster: Cluster):
    put_job(fake_api, Succeeded="done")
    put_pod(fake_api, 0, FAILURE, phase="Succeeded")
    refusals = [status(503, "ServiceUnavailable")]
    fake_api.rules.append(lambda _, path, __: refusals.pop() if path.endswith("/log") and refusals else None)
    assert len(list(follow_logs(cluster, "team", NAME))) == len(FAILURE)


def test_a_job_that_vanishes_while_followed_is_told(fake_api: FakeApi, cluster: Cluster):
    put_job(fake_api)
    put_pod(fake_api, 0, FAILURE[:1])
    lines = follow_logs(cluster, "team", NAME)
    assert next(lines).rank == 0
    fake_api.objects.clear()
    with pytest.raises(JobVanished, match="continues there"):
        list(lines)


def test_waiting_ends_well_when_the_job_does(fake_api: FakeApi, cluster: Cluster):
    put_job(fake_api)
    seen: list[str] = []
    looked = threading.Event()

    def note(now: JobState) -> None:
        seen.append(now.state)
        looked.set()

    def succeed() -> None:
        assert looked.wait(GENEROUS_SECONDS)
        put_job(fake_api, Succeeded="done")

    threading.Thread(target=succeed).start()
    assert wait_for_end(cluster, "team", NAME, on_change=note).state is State.SUCCEEDED
    assert seen == ["pending", "succeeded"]


def test_waiting_tells_failure_and_lost_patience_apart(fake_api: FakeApi, cluster: Cluster):
    put_job(fake_api)
    with pytest.raises(WaitedTooLong, match=re.escape("lapactl jobs why")):
        wait_for_end(cluster, "team", NAME, timeout_seconds=0.2)
    put_job(fake_api, Failed="too many restarts")
    with pytest.raises(JobFailed, match="too many restarts"):
        wait_for_end(cluster, "team", NAME)


def test_a_watch_whose_version_is_gone_starts_from_now(fake_api: FakeApi, cluster: Cluster):
    put_job(fake_api)

    def expire(_method: str, _path: str, query: dict[str, str]):
        if "watch" not in query:
            return None
        if "resourceVersion" in query:
            return status(410, "Expired", "too old resource version")
        put_job(fake_api, Succeeded="done")
        change = {"type": "MODIFIED", "object": fake_api.objects[f"{JOBS}/{NAME}"]}
        return 200, json.dumps(change) + "\n"

    fake_api.rules.append(expire)
    assert wait_for_end(cluster, "team", NAME).state is State.SUCCEEDED
    watches = [query.get("resourceVersion") for _, _, query in fake_api.requests if "watch" in query]
    assert [bool(version) for version in watches] == [True, False]


def test_a_server_that_keeps_no_watch_open_is_not_asked_without_pause(fake_api: FakeApi, cluster: Cluster):
    put_job(fake_api)
    watches: list[float] = []

    def close(_method: str, _path: str, query: dict[str, str]):
        if "watch" not in query:
            return None
        watches.append(time.monotonic())
        if len(watches) == 3:
            put_job(fake_api, Succeeded="done")
        return 200, ""

    fake_api.rules.append(close)
    assert wait_for_end(cluster, "team", NAME).state is State.SUCCEEDED
    assert watches[2] - watches[0] >= 2 * following.POLL_SECONDS
