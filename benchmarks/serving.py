"""What a policy server's speed is made of: compiled or as it is, keys and values kept or not, one robot or many.

    python benchmarks/serving.py [--policy convolutional] [--sides as-is,compiled] [--clients 1,8,32] [--out FILE]
    python benchmarks/serving.py --policy transformer --sides as-is,reread --clients ""

The policy is drawn at random: `convolutional` is the quickstart's, `transformer` a small vision-language model that
decodes seven dimensions, a token each. `inference` is of one process, all sides in turns; `reread` reads the whole
prompt again for every token. `servers` are real ones, which robots in threads of this process ask in turns; on few
cores they take time from the servers. Ratios of one run say more than its milliseconds.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.latency import served
from benchmarks.measuring import in_turns, parser_of, write
from lapa.client.latency import measure_latency
from lapa.config.serving import ServingConfig
from lapa.config.vla import BinnedHead, ConvolutionalBackbone, HuggingFaceBackbone
from lapa.models.vla.action_space import fit_action_space
from lapa.models.vla.backbones.huggingface import HuggingFaceBackbone as HuggingFaceModel
from lapa.models.vla.backbones.huggingface import RereadReading
from lapa.models.vla.model import build_vla
from lapa.models.vla.spec import VlaSpec
from lapa.models.vla.storage import save_vla
from lapa.models.vla.tiny import write_tiny_backbone
from lapa.policy.bundle import export_bundle
from lapa.policy.policy import Policy
from lapa.serving.model import ServedModel, made_up_observation

NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
INSTRUCTION = "push the red circle to the left side of the table"
TEXT = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 8}


def bundle_of(kind: str, folder: Path) -> str:
    """An untrained policy as `lapactl serve` takes it."""
    torch.manual_seed(0)
    space = fit_action_space(np.random.default_rng(0).normal(size=(400, len(NAMES))), names=NAMES, bins=256)
    backbone = ConvolutionalBackbone() if kind == "convolutional" else _transformer(folder / "backbone")
    model = build_vla(VlaSpec(backbone=backbone, head=BinnedHead(), actions=space, frame_size=48))
    save_vla(folder / "model", model)
    export_bundle(folder / "bundle", str(folder / "model"), lineage={}, resolved_run={})
    return str(folder / "bundle")


def _transformer(folder: Path) -> HuggingFaceBackbone:
    write_tiny_backbone(folder, "llava")
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["text_config"] |= TEXT | {"num_key_value_heads": 8, "head_dim": TEXT["hidden_size"] // 8}
    file.write_text(json.dumps(config))
    return HuggingFaceBackbone(model=str(folder), weights="random")


def policy_of(side: str, bundle: str, max_batch: int) -> tuple[Policy, float]:
    """As a server would have it, and the seconds until it was ready."""
    config = ServingConfig(bundle=bundle, device="cpu", max_batch=max_batch, compiled=side == "compiled")
    started = time.monotonic()
    model = ServedModel.load(config)
    if side == "compiled" and not model.card["compiled"]:
        raise SystemExit("nothing was compiled: the line above says why; leave `compiled` out of --sides")
    if side == "reread":
        _keep_nothing(model.policy)
    return model.policy, time.monotonic() - started


def _keep_nothing(policy: Policy) -> None:
    backbone = policy.model.backbone
    if not isinstance(backbone, HuggingFaceModel):
        raise SystemExit("only a transformer keeps keys and values: --policy transformer")

    def read(images: Any, instructions: tuple[str, ...]) -> RereadReading:
        prompt = backbone._prompt(images, instructions)
        none = torch.zeros(len(images), 0, dtype=torch.int64)
        return RereadReading(backbone=backbone, prompt=prompt, hidden=backbone._hidden(prompt, none)[:, -1])

    backbone.read = read  # type: ignore[assignment]


def call_of(policy: Policy, robots: int, repeats: int) -> Callable[[], None]:
    seen, told = [made_up_observation(policy)] * robots, [INSTRUCTION] * robots

    def call() -> None:
        for _ in range(repeats):
            policy.propose(seen, told)

    return call


def inference(bundle: str, sides: list[str], robots: list[int], *, rounds: int, repeats: int) -> dict[str, Any]:
    """Median CPU seconds of one inference, and each side against the first."""
    policies = {side: policy_of(side, bundle, max(robots)) for side in sides}
    found: dict[str, Any] = {"ready_seconds": {side: seconds for side, (_, seconds) in policies.items()}}
    for number in robots:
        calls = {side: call_of(policy, number, repeats) for side, (policy, _) in policies.items()}
        each = in_turns(calls, rounds=rounds, device=torch.device("cpu"))
        found[f"batch_{number}"] = {side: seconds / repeats for side, seconds in each.items()} | _shares(each)
    return found


def _shares(seconds: Mapping[str, float]) -> dict[str, float]:
    first, *others = seconds
    return {f"{side}_over_{first}": seconds[side] / seconds[first] for side in others}


def servers(bundle: str, sides: list[str], clients: list[int], *, rounds: int, requests: int) -> dict[str, Any]:
    """All are up all the time; they are asked in turns."""
    rows: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with ExitStack() as stack:
        addresses = {}
        for side in sides:
            settings = [f"compiled={str(side == 'compiled').lower()}", "device=cpu", "deadline_seconds=60"]
            addresses[side] = stack.enter_context(served(bundle, settings))
        for number in clients:
            for _ in range(rounds):
                for side, (url, token) in addresses.items():
                    row = measure_latency(url, token=token, clients=number, requests=requests, instruction=INSTRUCTION)
                    rows[side].append(asdict(row))
                    sys.stderr.write(f"side={side} clients={number} p50={row.p50_ms:.0f} p99={row.p99_ms:.0f}\n")
    return rows


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--policy", choices=("convolutional", "transformer"), default="convolutional")
    parser.add_argument("--sides", default="as-is,compiled", help="of as-is, compiled and reread; no server rereads")
    parser.add_argument("--robots", default="1,8,32", help="batches of `inference`")
    parser.add_argument("--clients", default="1,8,32", help="of `servers`; empty for none")
    parser.add_argument("--repeats", type=int, default=10, help="inferences of a round")
    parser.add_argument("--requests", type=int, default=30, help="observations of each client and round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sides = arguments.sides.split(",")
    robots, clients = ([int(n) for n in text.split(",") if n] for text in (arguments.robots, arguments.clients))
    with tempfile.TemporaryDirectory() as folder:
        bundle = bundle_of(arguments.policy, Path(folder))
        found = {
            "policy": arguments.policy,
            "inference": inference(bundle, sides, robots, rounds=arguments.rounds, repeats=arguments.repeats),
            "servers": servers(
                bundle, [side for side in sides if side != "reread"], clients,
                rounds=arguments.rounds, requests=arguments.requests,
            ) if clients else {},
        }  # fmt: skip
        write(found, arguments.out)


if __name__ == "__main__":
    main()
