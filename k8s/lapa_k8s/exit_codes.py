"""What a container's exit code means, and what helps."""

from typing import NamedTuple

from lapa_k8s.states import ContainerEnd


class Meaning(NamedTuple):
    """An end in words."""

    words: str
    remedy: str
    is_mended_by_restart: bool


_OWN = {
    2: Meaning("a setting is impossible", "correct it and submit again", False),
    3: Meaning("a dataset or label file is not what it should be", "look at the stage that made it", False),
    4: Meaning("a checkpoint cannot be used", "correct the setting it names, or use another run name", False),
    5: Meaning("training cannot go on: it diverged or its codebook collapsed", "change the settings it names", False),
    6: Meaning("the policy is damaged or leaves its bounds", "look at the bundle it names", False),
    7: Meaning("the tracking server refused or stayed away", "check tracking.uri and its secret", True),
    8: Meaning("a dependency is missing in the image", "use an image that has it", False),
    22: Meaning("a pipeline may not submit or watch its stages", "`lapactl doctor --cluster` names the right", False),
    26: Meaning("no model, alias or version of that name is registered", "`lapactl models list` shows what is", False),
    28: Meaning("a pipeline's stage failed", "`lapactl jobs list` names its job", False),
    29: Meaning("a pipeline's stage was cancelled", "submit the pipeline again with --new", False),
    75: Meaning("it was asked to stop and saved its step", "nothing: it goes on from there", True),
}
"""The library's tree, see `lapa.errors`; from 20 on the control plane's own, see `lapa_k8s.errors`."""
_SIGNALS = {
    9: Meaning("it was killed (SIGKILL)", "see whether the node or its memory ran out", True),
    15: Meaning("it was told to stop (SIGTERM) and did not save in time", "raise restarts.save_seconds", True),
    7: Meaning("a bus error: /dev/shm is full", "raise gpu_node.shared_memory_gib", False),
    11: Meaning("a crash in native code (SIGSEGV)", "see its log; a driver that is too old does this", True),
    6: Meaning("it aborted (SIGABRT), as NCCL does after a timeout", "find the rank that stopped first", True),
}
OUT_OF_MEMORY = Meaning(
    "it used more memory than its limit (OOMKilled)",
    "raise gpu_node.memory_gib, or lower stream.workers, stream.shuffle_samples or fit.micro_batch_size",
    False,
)
EVICTED = Meaning(
    "its node took it off (Evicted)", "lower what it writes to disk, or raise gpu_node.scratch.size_gib", True
)
UNKNOWN = Meaning("it failed", "see its log", True)


def meaning_of(end: ContainerEnd) -> Meaning:
    if end.reason == "OOMKilled":
        return OUT_OF_MEMORY
    if end.reason == "Evicted":
        return EVICTED
    if end.exit_code > 128:
        return _SIGNALS.get(end.exit_code - 128, UNKNOWN)
    return _OWN.get(end.exit_code, UNKNOWN)


def was_killed(end: ContainerEnd) -> bool:
    """Whether it was ended from outside, by a signal or the node, and not by its own program."""
    return end.reason in ("OOMKilled", "Evicted") or end.exit_code > 128
