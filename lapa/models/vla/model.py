"""The vision-language-action model: a backbone, a latent head, an action head."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lapa.models.vla.action_space import ActionSpace
from lapa.models.vla.backbones.build import build_backbone
from lapa.models.vla.heads.binned import BinnedActionHead
from lapa.models.vla.heads.build import action_vocabulary, build_action_head
from lapa.models.vla.heads.latent import LatentHead
from lapa.models.vla.spec import VlaSpec
from lapa.types.batches import Batch, Images

STILL = 1e-5
"""Standard deviation, in the robot's own units, below which a state never moved in the data."""


class VisionLanguageAction(nn.Module):
    """Observation and instruction in; latent action, action chunk or both out.

    Each head continues the prompt with tokens of its own, so a target belongs to exactly one head, and
    the action never depends on predicted codes (paper section 3.3).

    b batch, c h w image, n codes, m suffix tokens, k chunk length, a action dimensions, p proprioception, d width.
    """

    def __init__(self, spec: VlaSpec, *, source: str | None = None) -> None:
        """`source`: a folder with the backbone's files, in place of the hub name in the spec."""
        super().__init__()
        self.spec = spec
        vocabularies: dict[str, int] = {}
        if spec.codes_per_pair:
            vocabularies["latent"] = spec.codebook_size
        if spec.head is not None:
            vocabularies["action"] = action_vocabulary(spec.head, self._space)
        self.backbone = build_backbone(spec, vocabularies, source)
        width, std = self.backbone.width, self.backbone.std
        self.latent_head = (
            LatentHead(spec.codes_per_pair, spec.codebook_size, width, std) if spec.codes_per_pair else None
        )
        self.action_head = build_action_head(spec.head, self._space, width, std) if spec.head is not None else None
        self.proprioception = ProprioceptionFusion(spec, width) if spec.proprioception_dims else None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses `latent` and `action` of the heads whose targets the batch carries, and their accuracies
        (detached) as `accuracy/…`."""
        results: dict[str, Tensor] = {}
        if self.latent_head is not None and batch.codes is not None:
            hidden = self._hidden(batch.current, batch.instructions, "latent", self.latent_head.suffix(batch.codes))
            results |= self.latent_head.losses(hidden, batch.codes)
        if self.action_head is not None and batch.actions is not None:
            suffix = self._action_suffix(batch)
            hidden = self._hidden(batch.current, batch.instructions, "action", suffix)
            hidden = self._with_state(hidden, batch.proprioception)
            results |= self.action_head.losses(hidden, batch.actions, batch.action_is_real)
        return results

    @torch.no_grad()
    def predict_codes(self, images: Images, instructions: tuple[str, ...]) -> Int64[Tensor, "b n"]:
        """Greedy, of fixed length; no code ends the sequence."""
        assert self.latent_head is not None, "the model was built without a latent head"
        return self._greedy(self.latent_head, images, instructions, None).argmax(dim=-1)

    @torch.no_grad()
    def predict_actions(
        self,
        images: Images,
        instructions: tuple[str, ...],
        proprioception: Float[Tensor, "b p"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b k a"]:
        """Action chunks in robot units. `generator` is drawn from by heads that sample."""
        head = self.action_head
        assert head is not None, "the model was built without an action head"
        if isinstance(head, BinnedActionHead):
            return head.decode(self._greedy(head, images, instructions, proprioception))
        hidden = self._hidden(images, instructions, "action", head.queries(len(images), images.device))
        return head.decode(self._with_state(hidden, proprioception), generator)

    def _hidden(
        self, images: Images, instructions: tuple[str, ...], vocabulary: str, index: Int64[Tensor, "b m"]
    ) -> Float[Tensor, "b m+1 d"]:
        return self.backbone(images, instructions, self.backbone.tokens.ids(vocabulary, index))

    def _action_suffix(self, batch: Batch) -> Int64[Tensor, "b m"]:
        assert self.action_head is not None and batch.actions is not None
        if isinstance(self.action_head, BinnedActionHead):
            return self.action_head.suffix(batch.actions)
        return self.action_head.queries(batch.size, batch.current.device)

    def _greedy(
        self,
        head: LatentHead | BinnedActionHead,
        images: Images,
        instructions: tuple[str, ...],
        proprioception: Float[Tensor, "b p"] | None,
    ) -> Float[Tensor, "b m v"]:
        """Logits of every position, each position after the likeliest token of the one before."""
        reading = self.backbone.read(images, instructions)
        logits: list[Tensor] = []
        for position in range(head.length):
            if logits:
                reading.append(self.backbone.tokens.ids(head.vocabulary, logits[-1].argmax(dim=-1)))
            hidden = reading.hidden
            if isinstance(head, BinnedActionHead):
                hidden = self._with_state(hidden[:, None], proprioception)[:, 0]
            logits.append(head.at(position, hidden))
        return torch.stack(logits, dim=1)

    def _with_state(
        self, hidden: Float[Tensor, "b m d"], proprioception: Float[Tensor, "b p"] | None
    ) -> Float[Tensor, "b m d"]:
        if self.proprioception is None:
            return hidden
        assert proprioception is not None, "the model was built with proprioception, the input has none"
        return self.proprioception(hidden, proprioception)

    @property
    def _space(self) -> ActionSpace:
        assert self.spec.actions is not None, "VlaSpec checks that a head comes with its actions"
        return self.spec.actions


class ProprioceptionFusion(nn.Module):
    """Adds the robot's normalized state to every hidden state the action head reads."""

    def __init__(self, spec: VlaSpec, width: int) -> None:
        super().__init__()
        dims = spec.proprioception_dims
        self.mean = spec.proprioception_mean or (0.0,) * dims
        # A joint that never moved has no scale: dividing by its noise would turn its first motion into thousands.
        self.scale = tuple(std if std > STILL else 1.0 for std in spec.proprioception_std) or (1.0,) * dims
        self.fuse = nn.Sequential(nn.Linear(width + dims, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, hidden: Float[Tensor, "b m d"], state: Float[Tensor, "b p"]) -> Float[Tensor, "b m d"]:
        state = (state.float() - state.new_tensor(self.mean)) / state.new_tensor(self.scale)
        state = state.to(hidden.dtype)[:, None].expand(-1, hidden.shape[1], -1)
        return hidden + self.fuse(torch.cat([hidden, state], dim=-1))


def build_vla(spec: VlaSpec, *, source: str | None = None) -> VisionLanguageAction:
    """A new model; with `source`, the backbone's files are read there instead of at the name in the spec."""
    return VisionLanguageAction(spec, source=source)
