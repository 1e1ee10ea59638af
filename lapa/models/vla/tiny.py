"""Tiny backbones of real families, written from their configs alone: no download, no meaning, real code paths.

For tests and smoke runs: set `backbone.model` to the folder and `backbone.weights` to `random`.
"""

from pathlib import Path
from typing import Any, Literal, assert_never, get_args

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

Family = Literal["llava", "paligemma", "qwen2_5_vl", "smolvlm"]
FAMILIES: tuple[Family, ...] = get_args(Family)

_MARKS = (
    "<pad>",
    "<s>",
    "</s>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_TEMPLATE = (
    "{% for message in messages %}User:{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}


def write_tiny_backbone(folder: Path, family: Family) -> Path:
    """Config, tokenizer, image processor and chat template of a model with about 0.1 M parameters."""
    tokenizer = byte_tokenizer()
    match family:
        case "llava":
            _write_llava(folder, tokenizer)
        case "paligemma":
            _write_paligemma(folder, tokenizer)
        case "qwen2_5_vl":
            _write_qwen(folder, tokenizer)
        case "smolvlm":
            _write_smolvlm(folder, tokenizer)
        case _:
            assert_never(family)
    return folder


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte is a token, so every text has ids."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*_MARKS, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(_MARKS[3:]),
    )


def _write_llava(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**_VISION),
        text_config=transformers.LlamaConfig(**_TEXT),
        image_token_index=_id("<image>"),
        vision_feature_layer=-1,
    )
    size = {"height": 32, "width": 32}
    processor = transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessorPil(size=size, crop_size=size),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_TEMPLATE.replace("IMAGE", "<image>"),
    )
    config.save_pretrained(folder)
    processor.save_pretrained(folder)


def _write_paligemma(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    config = transformers.PaliGemmaConfig(
        vision_config=transformers.SiglipVisionConfig(**(_VISION | {"projection_dim": 32})),
        text_config=transformers.GemmaConfig(**_TEXT, head_dim=8),
        image_token_index=_id("<image>"),
        projection_dim=32,
    )
    images = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    setattr(images, "image_seq_length", 16)  # noqa: B010  (where PaliGemma's processor looks for it)
    config.save_pretrained(folder)
    transformers.PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)


def _write_qwen(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 32}
    config = transformers.Qwen2_5_VLConfig(
        vision_config=vision | {"patch_size": 8, "window_size": 32, "fullatt_block_indexes": [1]},
        text_config=_TEXT | {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        image_token_id=_id("<|image_pad|>"),
        video_token_id=_id("<|video_pad|>"),
        vision_start_token_id=_id("<|vision_start|>"),
        vision_end_token_id=_id("<|vision_end|>"),
    )
    side = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32}
    images = transformers.Qwen2VLImageProcessorPil(patch_size=8, merge_size=2, size=side)
    tokenizer.chat_template = _TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)


def _write_smolvlm(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    config = transformers.SmolVLMConfig(
        vision_config=_VISION,
        text_config=_TEXT | {"model_type": "llama"},
        scale_factor=2,
        image_token_id=_id("<image>"),
    )
    edge = {"longest_edge": 32}
    images = transformers.SmolVLMImageProcessorPil(size=edge, max_image_size=edge)
    tokenizer.chat_template = _TEMPLATE.replace("IMAGE", "<image>")
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)


def _id(mark: str) -> int:
    return _MARKS.index(mark)
