"""A bundle that is ready to serve: loaded, proved to be the one that was meant, and run once."""

import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from lapa import files
from lapa.config.serving import ServingConfig
from lapa.errors import PolicyError
from lapa.policy.agreement import bundle_conventions, card_of, check_robot
from lapa.policy.bundle import load_bundle
from lapa.policy.policy import Policy
from lapa.policy.recorded import read_recorded, replay
from lapa.serving.compiling import compile_policy
from lapa.serving.observations import ObservationReader
from lapa.types.episodes import Observation

logger = logging.getLogger(__name__)

MADE_UP_SIDE = 224
"""Side of the warm-up's picture for a policy that knows no frame size."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """The policy, how its observations are read, and what clients are told about it."""

    policy: Policy
    reader: ObservationReader
    card: dict[str, Any]
    """Plain values: the metadata that a client gets when it connects."""

    @classmethod
    def load(cls, config: ServingConfig) -> "ServedModel":
        """Raises PolicyError for a damaged bundle, another one than expected, one that cannot act, or one whose
        actions mean something else to `config.robot`."""
        if config.robot is not None:
            check_robot(config.bundle, config.robot)  # before a large model is loaded for nothing
        started = time.monotonic()
        policy = load_bundle(config.bundle, device=config.device, seed=config.seed)
        if not policy.digest.startswith(config.expected_digest):
            raise PolicyError(
                f"{config.bundle} has digest {policy.digest}, expected {config.expected_digest}; it is not served. "
                "Somebody replaced the bundle: deploy the version that was promoted, or promote this one."
            )
        _check_dimensions(policy, config)
        loaded = time.monotonic()
        Image.preinit()  # decoders load when the first picture comes, and that is a robot's
        is_compiled = config.compiled and compile_policy(policy, lambda: _warm_up(policy, 1, _batches(config)))
        _warm_up(policy, config.warmups)
        _replay(policy, config.bundle)
        logger.info(
            "event=loaded bundle=%s device=%s load_seconds=%.1f warmup_seconds=%.1f",
            config.bundle, policy.device, loaded - started, time.monotonic() - loaded,
        )  # fmt: skip
        reader = ObservationReader(
            proprioception_dims=policy.spec.proprioception_dims,
            max_pixels=config.max_image_pixels,
            image_key=config.image_key,
            state_key=config.state_key,
        )
        return cls(policy=policy, reader=reader, card=_card(policy, config) | {"compiled": is_compiled})


def _check_dimensions(policy: Policy, config: ServingConfig) -> None:
    """Also of a bundle that was made before conventions were kept."""
    wanted = config.robot.action_names if config.robot is not None else ()
    if wanted and wanted != policy.space.names:
        raise PolicyError(
            f"{config.bundle} answers with {policy.space.size} numbers ({', '.join(policy.space.names)}); the robot "
            f"takes {len(wanted)} ({', '.join(wanted)}), in this order. It is not served: it was finetuned for another "
            "robot, or `robot.actions` is wrong."
        )


def _batches(config: ServingConfig) -> tuple[int, ...]:
    """One robot, and several: compilers treat a batch of one as a case of its own."""
    return (1, 2, config.max_batch) if config.max_batch > 1 else (1,)


def _warm_up(policy: Policy, times: int, batches: tuple[int, ...] = (1,)) -> None:
    """The first inference pays for allocations and kernels; a robot should not."""
    for batch in batches * times:
        actions = policy.propose([made_up_observation(policy)] * batch, ["warm up"] * batch)
    if not np.isfinite(actions).all():
        raise PolicyError(
            "the policy answers a grey picture with NaN or infinite actions; it is not served. The weights are "
            "damaged or training diverged: evaluate the bundle, and promote another one."
        )


def _replay(policy: Policy, bundle: str) -> None:
    recorded = read_recorded(bundle)
    if recorded is None:
        logger.warning(
            "event=nothing_to_replay bundle=%s message='the bundle carries no recorded observations, so that it acts "
            "here as it did at export is not proved; policies finetuned anew carry some'", bundle,
        )  # fmt: skip
        return
    share = replay(policy, recorded)
    logger.info("event=replayed observations=%d differing=%.4f", len(recorded.instructions), share)


def made_up_observation(policy: Policy) -> Observation:
    """Grey, with the robot where it mostly was."""
    spec = policy.spec
    side = spec.frame_size or MADE_UP_SIDE
    mean = spec.proprioception_mean or (0.0,) * spec.proprioception_dims
    return Observation(
        image=np.full((side, side, 3), 127, dtype=np.uint8),
        proprioception=np.array(mean, dtype=np.float32) if spec.proprioception_dims else None,
    )


def _card(policy: Policy, config: ServingConfig) -> dict[str, Any]:
    spec, space = policy.spec, policy.space
    return {
        "server": "lapa",
        "name": config.name or files.name_of(config.bundle),
        "version": config.version,
        "digest": policy.digest,
        "horizon": policy.horizon,
        "action_names": list(space.names),
        "action_low": [dimension.min for dimension in space.dimensions],
        "action_high": [dimension.max for dimension in space.dimensions],
        "proprioception_dims": spec.proprioception_dims,
        "frame_size": spec.frame_size or 0,
        "deadline_seconds": config.deadline_seconds,
        "conventions": card_of(bundle_conventions(config.bundle)),
    }
