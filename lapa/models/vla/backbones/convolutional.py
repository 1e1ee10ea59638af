"""A small FiLM network with spatial softmax: learns a tabletop of small frames in CPU minutes."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lapa.config.vla import ConvolutionalBackbone as ConvolutionalConfig
from lapa.models.convolution import GroupNorm, coordinates
from lapa.models.images import to_unit
from lapa.models.vla.backbones.base import Backbone
from lapa.models.vla.tokens import TokenTable
from lapa.types.batches import Images

logger = logging.getLogger(__name__)

MAX_WORDS = 24
"""Words of an instruction that are read; the rest is left out."""
_LANGUAGE_WIDTH = 64
_TOKEN_WIDTH = 64
_RECURRENT_WIDTH = 96


class ConvolutionalBackbone(Backbone):
    """b batch, c width of the feature map, h w its sides, g keypoints, l words, m suffix tokens, d hidden."""

    def __init__(
        self,
        config: ConvolutionalConfig,
        vocabularies: Mapping[str, int],
        image_mean: tuple[float, ...],
        image_std: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.config, self.width = config, config.hidden
        # Input scaling and the norm after the stem decide whether training leaves the chance plateau.
        self.image_mean, self.image_std = image_mean, image_std
        self.instruction = InstructionEncoder(config.vocabulary, _LANGUAGE_WIDTH)
        stride = config.stem_stride
        self.stem = nn.Conv2d(3, config.width, 2 * stride, stride, padding=stride // 2)
        self.norm = GroupNorm(config.width)
        self.place = nn.Conv2d(config.width + 2, config.width, 3, padding=1)
        self.blocks = nn.ModuleList(FilmBlock(config.width, _LANGUAGE_WIDTH) for _ in range(config.blocks))
        self.keypoints = nn.Conv2d(config.width, config.keypoints, 1)
        self.context = nn.Sequential(
            nn.Linear(2 * config.keypoints + _LANGUAGE_WIDTH, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
        )
        self.tokens = TokenTable(vocabularies, _TOKEN_WIDTH, std=1.0)
        self.begin = nn.Linear(config.hidden, _RECURRENT_WIDTH)
        self.step = nn.GRUCell(_TOKEN_WIDTH, _RECURRENT_WIDTH)
        self.add = nn.Linear(_RECURRENT_WIDTH, config.hidden)

    def forward(
        self, images: Images, instructions: tuple[str, ...], suffix: Int64[Tensor, "b m"]
    ) -> Float[Tensor, "b m+1 d"]:
        reading = self.read(images, instructions)
        hidden = [reading.hidden]
        embedded = self.tokens(suffix) if suffix.shape[1] else None
        for position in range(suffix.shape[1]):
            assert embedded is not None
            reading.advance(embedded[:, position])
            hidden.append(reading.hidden)
        return torch.stack(hidden, dim=1)

    def read(self, images: Images, instructions: tuple[str, ...]) -> "RecurrentReading":
        context = self._context(images, instructions)
        state = torch.tanh(self.begin(context))
        return RecurrentReading(backbone=self, context=context, state=state, hidden=context)

    def compilable(self) -> list[nn.Module]:
        return list(self.blocks)

    def _context(self, images: Images, instructions: tuple[str, ...]) -> Float[Tensor, "b d"]:
        language = self.instruction(instructions)
        pixels = to_unit(images, self.config.image_size)
        pixels = (pixels - pixels.new_tensor(self.image_mean).view(3, 1, 1)) / pixels.new_tensor(self.image_std).view(
            3, 1, 1
        )
        pixels = pixels.to(self.stem.weight.dtype)
        features = F.relu(self.norm(self.stem(pixels.contiguous(memory_format=torch.channels_last))))
        xy = coordinates(features)
        features = F.relu(self.place(torch.cat([features, xy.expand(len(features), -1, -1, -1)], dim=1)))
        for block in self.blocks:
            features = block(features, language)
        attention = rearrange(self.keypoints(features), "b g h w -> b g (h w)").softmax(dim=-1)
        points = torch.einsum("bgn,xn->bgx", attention, rearrange(xy, "1 x h w -> x (h w)"))
        return self.context(torch.cat([rearrange(points, "b g x -> b (g x)"), language], dim=-1))


@dataclass
class RecurrentReading:
    """The context of one prompt, and what was decoded after it."""

    backbone: ConvolutionalBackbone
    context: Float[Tensor, "b d"]
    state: Float[Tensor, "b r"]
    hidden: Float[Tensor, "b d"]

    def append(self, ids: Int64[Tensor, " b"]) -> None:
        self.advance(self.backbone.tokens(ids))

    def advance(self, embedded: Float[Tensor, "b e"]) -> None:
        self.state = self.backbone.step(embedded, self.state)
        self.hidden = self.context + self.backbone.add(self.state)


class FilmBlock(nn.Module):
    """Residual block, scaled and shifted per channel by the instruction."""

    def __init__(self, width: int, language: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.norm = GroupNorm(width)
        self.film = nn.Linear(language, 2 * width)

    def forward(self, features: Float[Tensor, "b c h w"], language: Float[Tensor, "b e"]) -> Float[Tensor, "b c h w"]:
        scale, shift = rearrange(self.film(language), "b (two c) -> two b c 1 1", two=2)
        inner = self.second(F.relu(self.first(features)))
        return features + F.relu(self.norm(inner) * (1 + scale) + shift)


class InstructionEncoder(nn.Module):
    """Hashed words, each bound to its place by a learned gain, summed: order matters, length is free."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.words = nn.Embedding(vocabulary + 1, width // 2, padding_idx=0)
        self.gains = nn.Embedding(MAX_WORDS, width // 2)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, instructions: tuple[str, ...]) -> Float[Tensor, "b e"]:
        device = self.words.weight.device
        buckets = [hashed_words(text, self.vocabulary) for text in instructions]
        longest = max(1, *(len(row) for row in buckets))
        ids = torch.tensor([row + (0,) * (longest - len(row)) for row in buckets], device=device)
        words = self.words(ids)  # b l e/2; padding is a row of zeros
        bound = words * self.gains(torch.arange(longest, device=device))
        return self.mix(torch.cat([words.sum(dim=1), bound.sum(dim=1)], dim=-1))


@lru_cache(maxsize=65536)
def hashed_words(instruction: str, vocabulary: int) -> tuple[int, ...]:
    """Bucket of each word, 1..vocabulary; the same in every process and on every machine."""
    words = "".join(letter if letter.isalnum() else " " for letter in instruction.lower()).split()
    if len(words) > MAX_WORDS:
        logger.warning("event=instruction_shortened words=%d kept=%d", len(words), MAX_WORDS)
    return tuple(
        1 + int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big") % vocabulary
        for word in words[:MAX_WORDS]
    )
