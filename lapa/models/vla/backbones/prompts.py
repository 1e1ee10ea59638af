"""From frames and instructions to a Hugging Face model's inputs: chat template, image placeholders, pixels.

Runs on the host with the model's own image processor, the same in training and in serving. b batch, s tokens.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.utils.hub import cached_file

from lapa.config.vla import HuggingFaceBackbone as HuggingFaceConfig
from lapa.errors import ConfigError
from lapa.types.batches import Images
from lapa.types.episodes import Frame


class Prompter:
    """Builds left-padded model inputs; a batch is as long as its longest prompt."""

    def __init__(self, config: HuggingFaceConfig, location: str) -> None:
        if "{instruction}" not in config.prompt:
            raise ConfigError(f"backbone.prompt {config.prompt!r} has no {{instruction}}; say where it goes.")
        self.config = config
        self.processor = _load_processor(location, config.revision)
        self.processor.tokenizer.padding_side = "left"
        if self.processor.tokenizer.pad_token_id is None:
            self.processor.tokenizer.pad_token = self.processor.tokenizer.eos_token
        self._text = lru_cache(maxsize=65536)(self._compose)
        self._length = lru_cache(maxsize=65536)(self._count)

    def __call__(self, images: Images, instructions: tuple[str, ...]) -> dict[str, Tensor]:
        """Inputs of the model, on the CPU."""
        frames = rearrange(images.cpu().numpy(), "b c h w -> b h w c")
        texts = [self._text(instruction) for instruction in instructions]
        inputs = self.processor(
            text=texts, images=[[frame] for frame in frames], padding=True, return_tensors="pt", **self._options()
        )
        return {name: value for name, value in inputs.items() if isinstance(value, Tensor) and name != "labels"}

    def length(self, instruction: str) -> int:
        """Tokens of the prompt of one instruction, without its frame, which has equally many in every prompt."""
        return self._length(instruction)

    def save(self, folder: Path) -> None:
        self.processor.save_pretrained(folder)

    def _count(self, instruction: str) -> int:
        return len(self.processor.tokenizer(self._text(instruction), add_special_tokens=False)["input_ids"])

    def _compose(self, instruction: str) -> str:
        """The whole prompt of one instruction, ready for the answer."""
        question = self.config.prompt.replace("{instruction}", self._shortened(instruction))
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": question}]
            conversation = [{"role": "user", "content": content}]
            return self.processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
        return f"{self.processor.image_token}{question}"

    def _shortened(self, instruction: str) -> str:
        """At most `max_instruction_tokens`, and free of the tokenizer's own marks: an instruction that
        spells `<image>` must not count as an image."""
        tokenizer = self.processor.tokenizer
        for mark in {*tokenizer.all_special_tokens, self.processor.image_token}:
            instruction = instruction.replace(mark, " ")
        ids = tokenizer(instruction, add_special_tokens=False)["input_ids"]
        if len(ids) <= self.config.max_instruction_tokens:
            return instruction
        return tokenizer.decode(ids[: self.config.max_instruction_tokens], skip_special_tokens=True)

    def _options(self) -> dict[str, Any]:
        """Robot frames are small: one picture per frame, never cut into tiles and enlarged."""
        return {"do_image_splitting": False} if hasattr(self.processor.image_processor, "do_image_splitting") else {}


class Processor(Protocol):
    """What is used of a transformers processor."""

    tokenizer: Any
    image_processor: Any
    image_token: str
    chat_template: str | None

    def __call__(
        self, *, text: list[str], images: list[list[Frame]], padding: bool, return_tensors: str, **options: Any
    ) -> dict[str, Tensor]: ...

    def apply_chat_template(self, conversation: Any, **options: Any) -> str: ...

    def save_pretrained(self, folder: Path) -> None: ...


class StillProcessor:
    """Image processor and tokenizer of a family whose own processor also wants video libraries.

    Expands each image placeholder to the tokens the family's processor would write.
    """

    def __init__(self, location: str, revision: str | None, config: Any) -> None:
        self.config = config
        self.tokenizer = AutoTokenizer.from_pretrained(location, revision=revision, trust_remote_code=False)
        self.image_processor = AutoImageProcessor.from_pretrained(location, revision=revision, trust_remote_code=False)
        if not self.tokenizer.chat_template:
            self.tokenizer.chat_template = _processor_template(location, revision)
        self.chat_template = self.tokenizer.chat_template
        self._mark = str(self.tokenizer.convert_ids_to_tokens(config.image_token_id))
        # Without a chat template the prompt is the placeholder and the question.
        self.image_token = self._mark if self._is_smolvlm else f"<|vision_start|>{self._mark}<|vision_end|>"

    @property
    def _is_smolvlm(self) -> bool:
        return bool(self.config.model_type == "smolvlm")

    def __call__(
        self,
        *,
        text: list[str],
        images: Sequence[Sequence[np.ndarray]],
        padding: bool,
        return_tensors: str,
        **options: Any,
    ) -> dict[str, Tensor]:
        pictures = dict(self.image_processor(images=list(images), return_tensors=return_tensors, **options))
        expanded = [prompt.replace(self._mark, self._placeholder(pictures, i)) for i, prompt in enumerate(text)]
        tokens = dict(self.tokenizer(expanded, padding=padding, return_tensors=return_tensors))
        tokens.pop("token_type_ids", None)
        if not self._is_smolvlm:
            tokens["mm_token_type_ids"] = (tokens["input_ids"] == self.config.image_token_id).to(torch.int64)
        return tokens | pictures

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        return str(self.tokenizer.apply_chat_template(conversation, **options))

    def save_pretrained(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)

    def _placeholder(self, pictures: dict[str, Tensor], i: int) -> str:
        if self._is_smolvlm:
            vision = self.config.vision_config
            count = (vision.image_size // vision.patch_size) ** 2 // self.config.scale_factor**2
            fence = "<fake_token_around_image>"
            return f"{fence}<global-img>{self._mark * count}{fence}"
        cells = int(pictures["image_grid_thw"][i].prod())
        return self._mark * (cells // self.image_processor.merge_size**2)


_STILL_FAMILIES = frozenset({"smolvlm", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"})


def _load_processor(location: str, revision: str | None) -> Processor:
    try:
        config = AutoConfig.from_pretrained(location, revision=revision, trust_remote_code=False)
        if config.model_type in _STILL_FAMILIES:
            return StillProcessor(location, revision, config)
        return AutoProcessor.from_pretrained(location, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no processor can be read from {location!r}: {error}. Set backbone.model to a Hugging Face name, "
            "or to a local folder with a config, a tokenizer and an image processor."
        ) from error


def _processor_template(location: str, revision: str | None) -> str | None:
    """The chat template where older repositories keep it, beside the tokenizer instead of in it."""
    path = cached_file(
        location,
        "chat_template.json",
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return json.loads(Path(path).read_text())["chat_template"] if path else None
