"""Variables of the container."""

from lapa_k8s.base import Manifest
from lapa_k8s.parts import ObjectStore
from lapa_k8s.rendering.paths import HOME, SCRATCH
from lapa_k8s.spec import ONE_PROCESS_STAGES, PEER_STAGES, TRAINING_STAGES, JobSpec

S3_KEYS = {"AWS_ACCESS_KEY_ID": True, "AWS_SECRET_ACCESS_KEY": True, "AWS_SESSION_TOKEN": False}
"""Variables from the storage Secret, and whether it must have them."""
METRICS_PORT = 9464
"""Where a training shows its numbers (`lapa/training/metrics_server.py`); the chart's TrainingRuntime names it, too."""
TRACKING_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def environment(spec: JobSpec) -> list[Manifest]:
    """All variables, each once; the profile's own win over ours."""
    plain = {
        # The v1 operator sets this itself, and a name twice is refused by server-side apply.
        **({} if spec.operator == "pytorchjob" else {"PYTHONUNBUFFERED": "1"}),
        **writable_folders(),
        **_shard_cache(spec),
        **store_variables(spec.storage),
        **_tracking(spec),
        **(_launcher(spec) if spec.stage not in ONE_PROCESS_STAGES else {}),
        "LAPA_IMAGE": spec.images.train,  # what a stage tells of itself
        **({"LAPA_METRICS_PORT": str(METRICS_PORT)} if spec.stage in TRAINING_STAGES else {}),
        **({"LAPA_INGEST_NODES": str(spec.nodes)} if spec.stage in PEER_STAGES else {}),
        **_network(spec),
        **spec.environment,
    }
    referenced = {
        **{name: (spec.storage.secret, name, needed) for name, needed in S3_KEYS.items() if spec.storage.secret},
        **{name: (spec.tracking.secret, name, False) for name in TRACKING_KEYS if spec.tracking.secret},
        **{name: (source.secret, source.key, True) for name, source in spec.secrets.items()},
    }
    return [
        *({"name": name, "value": value} for name, value in plain.items() if name not in referenced),
        *(
            {"name": name, "valueFrom": {"secretKeyRef": secret_key(secret, key, is_needed=needed)}}
            for name, (secret, key, needed) in referenced.items()
        ),
    ]


def secret_key(secret: str | None, key: str, *, is_needed: bool) -> Manifest:
    return {"name": secret, "key": key, **({} if is_needed else {"optional": True})}


def writable_folders() -> dict[str, str]:
    """Everything that programs like to write outside a read-only root; compiled code and downloads outlive restarts."""
    return {
        "HOME": HOME,
        "TMPDIR": SCRATCH,  # a folder that exists: Python falls back silently otherwise
        "XDG_CACHE_HOME": f"{SCRATCH}/cache",
        "HF_HOME": f"{SCRATCH}/cache/huggingface",
        "TORCH_EXTENSIONS_DIR": f"{SCRATCH}/cache/torch-extensions",
        "TORCHINDUCTOR_CACHE_DIR": f"{SCRATCH}/cache/inductor",
        "TRITON_CACHE_DIR": f"{SCRATCH}/cache/triton",
    }


def _shard_cache(spec: JobSpec) -> dict[str, str]:
    """Blocks of shards, for all ranks of a pod; the other half is for checkpoints on their way and compiled code.

    A pod that fills its scratch volume beyond the size asked for is evicted.
    """
    if spec.stage == "ingest":
        return {}
    return {
        "LAPA_CACHE_DIR": f"{SCRATCH}/cache/shards",
        "LAPA_CACHE_BYTES": str(spec.node.scratch.size_gib * 2**30 // 2),
    }


def store_variables(storage: ObjectStore) -> dict[str, str]:
    found = {}
    if storage.endpoint_url:
        found["AWS_ENDPOINT_URL"] = storage.endpoint_url
        # boto3 since 1.36 sends checksums of a kind that some S3 servers refuse; AWS itself understands them.
        found["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"
        found["AWS_RESPONSE_CHECKSUM_VALIDATION"] = "when_required"
    if storage.region:
        found["AWS_REGION"] = storage.region
    return found


def _tracking(spec: JobSpec) -> dict[str, str]:
    found = {"MLFLOW_TRACKING_URI": spec.tracking.uri, "MLFLOW_RUN_ID": spec.tracking_run_id}
    return {name: value for name, value in found.items() if value}


def _launcher(spec: JobSpec) -> dict[str, str]:
    return {
        # torchrun kills ranks 30 s after SIGTERM otherwise (torch >= 2.12 reads this).
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(spec.restarts.shutdown_seconds),
        # Each rank's words go to a file and to the log, with its global rank in front of every line.
        "PET_TEE": "3",
        "PET_LOG_DIR": f"{SCRATCH}/logs",
        "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[rank${rank}]: ",
    }


def _network(spec: JobSpec) -> dict[str, str]:
    interface = spec.network.socket_interface
    found = {"GLOO_SOCKET_IFNAME": interface} if interface else {}
    if spec.node.gpus == 0:
        # glibc otherwise keeps the memory of gathered tensors, and a ZeRO-3 rank ends up with as much as before.
        return {**found, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    found |= {
        "NCCL_DEBUG": spec.network.debug,
        # The flight recorder: what every rank was waiting for when a collective timed out.
        "TORCH_FR_BUFFER_SIZE": "2000",
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_FR_DUMP_TEMP_FILE": f"{SCRATCH}/nccl-trace-rank-",
    }
    if interface:
        found["NCCL_SOCKET_IFNAME"] = interface
    if spec.network.ib_devices:
        found["NCCL_IB_HCA"] = spec.network.ib_devices
    return found
