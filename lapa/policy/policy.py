"""A trained model as what a robot asks: observations and instructions in, action chunks out."""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float32
from torch import Tensor

from lapa.data.resize import resize
from lapa.errors import PolicyError
from lapa.models.vla.model import VisionLanguageAction
from lapa.models.vla.spec import VlaSpec
from lapa.types.batches import Images
from lapa.types.episodes import ActionChunk, Observation


class Policy:
    """Batched: a chunk depends on its own observation and instruction only, and for heads that sample (flow)
    on noise, which `seed` fixes for a sequence of calls. `digest` names the bundle in every chunk."""

    def __init__(self, model: VisionLanguageAction, *, digest: str = "", device: str = "cpu", seed: int = 0) -> None:
        if model.action_head is None:
            raise PolicyError("the model has no action head; finetune it before it can act.")
        assert model.spec.actions is not None, "VlaSpec checks that a head comes with its actions"
        self.spec: VlaSpec = model.spec
        self.space = model.spec.actions
        self.digest, self.device = digest, torch.device(device)
        self.model = model.to(self.device).eval()
        self._generator = torch.Generator().manual_seed(seed)
        self.low = np.array([dimension.min for dimension in self.space.dimensions])
        self.high = np.array([dimension.max for dimension in self.space.dimensions])
        """The range of each action dimension that was recorded: what `act` keeps to."""

    @property
    def horizon(self) -> int:
        """Actions per chunk."""
        assert self.spec.head is not None
        return self.spec.head.horizon

    def act(self, observations: Sequence[Observation], instructions: Sequence[str]) -> list[ActionChunk]:
        """One chunk per observation, in the robot's own units and inside the range that was recorded.

        PolicyError when an observation lacks what the policy looks at, or when an action is no number.
        """
        return [
            ActionChunk(actions=chunk, policy_digest=self.digest)
            for chunk in self._checked(self.propose(observations, instructions))
        ]

    def propose(self, observations: Sequence[Observation], instructions: Sequence[str]) -> Float32[np.ndarray, "b k a"]:
        """What the model answers, in the robot's own units, neither checked nor brought into range: whoever calls
        this does both, row by row, and counts what it finds. PolicyError when an observation lacks something."""
        if len(observations) != len(instructions):
            raise PolicyError(
                f"{len(observations)} observations came with {len(instructions)} instructions; send one for each."
            )
        if not observations:
            return np.zeros((0, self.horizon, self.space.size), dtype=np.float32)
        images = frames_to_images([observation.image for observation in observations], self.spec).to(self.device)
        actions = self.model.predict_actions(
            images, tuple(instructions), self._proprioception(observations), self._generator
        )
        return actions.float().cpu().numpy()

    def _proprioception(self, observations: Sequence[Observation]) -> Tensor | None:
        wanted = self.spec.proprioception_dims
        if not wanted:
            return None
        rows = [observation.proprioception for observation in observations]
        for row in rows:
            if row is None or row.shape != (wanted,) or not np.isfinite(row).all():
                got = "none" if row is None else f"{row.shape} with {np.isfinite(row).sum()} finite numbers"
                raise PolicyError(
                    f"the policy looks at {wanted} finite proprioception numbers, an observation has {got}."
                )
        return torch.from_numpy(np.stack([np.asarray(row, dtype=np.float32) for row in rows])).to(self.device)

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        if not np.isfinite(actions).all():
            names = [self.space.names[i] for i in np.flatnonzero(~np.isfinite(actions).all(axis=(0, 1)))]
            raise PolicyError(
                f"the policy gave NaN or infinite values for {', '.join(names)}; stop the robot. The weights are "
                "damaged or training diverged: evaluate the bundle before using it again."
            )
        # Regressed actions can overshoot; the robot was never shown to survive what lies beyond the data.
        return np.clip(actions, self.low, self.high).astype(np.float32)


def frames_to_images(frames: Sequence[np.ndarray], spec: VlaSpec) -> Images:
    """Frames of any size as the training stream delivers them: resized as ingest did, uint8 b c h w."""
    for frame in frames:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise PolicyError(
                f"an image has shape {frame.shape} and type {frame.dtype}; send uint8 RGB of shape h w 3."
            )
    sized = [resize(frame, spec.frame_size, spec.frame_resize) for frame in frames] if spec.frame_size else frames
    if len({frame.shape for frame in sized}) > 1:
        raise PolicyError("images of one call have different sizes and the policy knows no frame size; send one size.")
    return torch.from_numpy(rearrange(np.stack(sized), "b h w c -> b c h w").copy())
