"""Any image-text-to-text model of the transformers library as a backbone.

The model's own forward pass runs on token ids, so that image tokens, multi-axis positions and attention
kinds are its own business. Ids past its vocabulary reach the small token table instead.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lapa.config.vla import HuggingFaceBackbone as HuggingFaceConfig
from lapa.config.vla import LoraConfig
from lapa.errors import ConfigError, MissingDependency
from lapa.models.partitioning import transformers_in_parts
from lapa.models.vla.backbones.base import Backbone, Reading
from lapa.models.vla.backbones.prompts import Prompter
from lapa.models.vla.tokens import TokenTable
from lapa.types.batches import Images

try:
    from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel
    from transformers.initialization import no_init_weights
except ImportError as error:
    raise MissingDependency("the Hugging Face backbone needs transformers: pip install 'lapa[train]'") from error

_CAUSAL_TOKEN_TYPE = {"paligemma": 1}
"""`token_type_ids` that mark a token as causal text; 0 everywhere else. PaliGemma reads its prompt with
full attention and types it 0."""


class HuggingFaceBackbone(Backbone):
    """b batch, s prompt tokens (padded on the left), m suffix tokens, d width."""

    def __init__(self, config: HuggingFaceConfig, vocabularies: Mapping[str, int], source: str | None = None) -> None:
        super().__init__()
        self.config = config
        location = source or config.model
        # A model folder carries its weights apart, so only its config is read here.
        pretrained = config.weights == "pretrained" and source is None
        self.prompter = Prompter(config, location)
        full = _load(config, location, pretrained=pretrained)
        # Without the text head: nothing here ever predicts text.
        self.model: PreTrainedModel = getattr(full, full.base_model_prefix, full)
        text_config = self.model.config.get_text_config()
        self.width, self.std = text_config.hidden_size, getattr(text_config, "initializer_range", 0.02)
        self._has_grid_positions = hasattr(self.model, "rope_deltas")
        self._takes_positions = "position_ids" in inspect.signature(self.model.forward).parameters
        if config.lora is not None:
            _add_adapters(self.model, config.lora)
        elif config.freeze_vision:
            _freeze(self.model.get_encoder(modality="image"), self.model)
        self._first_id = _extend_embedding(self.model, TokenTable(vocabularies, self.width, self.std))
        if config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    @property
    def tokens(self) -> TokenTable:  # type: ignore[override]
        return self.model.get_input_embeddings().tokens  # type: ignore[return-value]

    def forward(
        self, images: Images, instructions: tuple[str, ...], suffix: Int64[Tensor, "b m"]
    ) -> Float[Tensor, "b m+1 d"]:
        return self._hidden(self._prompt(images, instructions), suffix)

    def read(self, images: Images, instructions: tuple[str, ...]) -> Reading:
        prompt = self._prompt(images, instructions)
        output = self.model(**self._positioned(prompt), use_cache=True, return_dict=True)
        hidden = output.last_hidden_state[:, -1]
        if output.past_key_values is None:
            return RereadReading(backbone=self, prompt=prompt, hidden=hidden)
        return CachedReading(
            backbone=self,
            attention_mask=prompt["attention_mask"],
            cache=output.past_key_values,
            shift=getattr(self.model, "rope_deltas", None),
            hidden=hidden,
        )

    def lengths(self, instructions: tuple[str, ...]) -> list[int] | None:
        return [self.prompter.length(instruction) for instruction in instructions]

    def save_files(self, folder: Path) -> None:
        self.prompter.save(folder)
        self.model.config.save_pretrained(folder)

    def _prompt(self, images: Images, instructions: tuple[str, ...]) -> dict[str, Tensor]:
        dtype = self.model.get_input_embeddings().get_parameter("text.weight").dtype
        return {
            name: value.to(images.device, dtype if value.is_floating_point() else value.dtype)
            for name, value in self.prompter(images, instructions).items()
        }

    def _hidden(self, prompt: dict[str, Tensor], suffix: Int64[Tensor, "b m"]) -> Float[Tensor, "b m+1 d"]:
        inputs = self._positioned(self._continued(prompt, suffix))
        output = self.model(**inputs, use_cache=False, return_dict=True)
        return output.last_hidden_state[:, -(suffix.shape[1] + 1) :]

    def _continued(self, prompt: dict[str, Tensor], suffix: Int64[Tensor, "b m"]) -> dict[str, Tensor]:
        """The prompt with suffix tokens after it, in every per-token field."""
        token_type = _CAUSAL_TOKEN_TYPE.get(self.model.config.model_type, 0)
        added = {
            "input_ids": suffix + self._first_id,
            "attention_mask": torch.ones_like(suffix),
            "token_type_ids": torch.full_like(suffix, token_type),
            "mm_token_type_ids": torch.zeros_like(suffix),
        }
        return prompt | {
            name: torch.cat([prompt[name], value.to(prompt[name].dtype)], dim=1)
            for name, value in added.items()
            if name in prompt
        }

    def _positioned(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """With positions that do not count padding; models with grid positions find their own."""
        if self._has_grid_positions or not self._takes_positions:
            return inputs
        return inputs | {"position_ids": _positions(inputs["attention_mask"])}


@dataclass
class CachedReading:
    """Keys and values of what was read are kept; each token costs one position."""

    backbone: HuggingFaceBackbone
    attention_mask: Int64[Tensor, "b s"]
    cache: Any
    shift: Int64[Tensor, "b 1"] | None
    """How far the prompt's grid positions lag behind its token count, for models that have them."""
    hidden: Float[Tensor, "b d"]

    def append(self, ids: Int64[Tensor, " b"]) -> None:
        backbone = self.backbone
        one = torch.ones_like(ids)[:, None].to(self.attention_mask.dtype)
        self.attention_mask = torch.cat([self.attention_mask, one], dim=1)
        inputs = {"input_ids": (ids + backbone._first_id)[:, None], "attention_mask": self.attention_mask}
        position = _positions(self.attention_mask)[:, -1:]
        if self.shift is not None:
            inputs["position_ids"] = (position + self.shift).expand(3, -1, -1)
        elif backbone._takes_positions:
            inputs["position_ids"] = position
        output = backbone.model(**inputs, past_key_values=self.cache, use_cache=True, return_dict=True)
        self.cache, self.hidden = output.past_key_values, output.last_hidden_state[:, -1]


@dataclass
class RereadReading:
    """For models that keep no cache: everything is read again for each token."""

    backbone: HuggingFaceBackbone
    prompt: dict[str, Tensor]
    hidden: Float[Tensor, "b d"]
    suffix: Int64[Tensor, "b m"] | None = None

    def append(self, ids: Int64[Tensor, " b"]) -> None:
        self.suffix = ids[:, None] if self.suffix is None else torch.cat([self.suffix, ids[:, None]], dim=1)
        self.hidden = self.backbone._hidden(self.prompt, self.suffix)[:, -1]


class ExtendedEmbedding(nn.Module):
    """Text ids reach the model's own table, ids from `first_id` on the new one."""

    def __init__(self, text: nn.Module, tokens: TokenTable, first_id: int) -> None:
        super().__init__()
        self.text, self.tokens, self.first_id = text, tokens, first_id

    def forward(self, ids: Int64[Tensor, "b s"]) -> Float[Tensor, "b s d"]:
        is_new = ids >= self.first_id
        embedded = self.text(ids.masked_fill(is_new, 0))
        new = self.tokens((ids - self.first_id).masked_fill(~is_new, -1)).to(embedded.dtype)
        # Some models scale inside their embedding; new rows are drawn at the scale of the unscaled ones.
        new = new * getattr(self.text, "embed_scale", 1.0)
        return torch.where(is_new.unsqueeze(-1), new, embedded)

    @property
    def weight(self) -> Tensor:
        """The text table, which models ask their embedding for."""
        return self.text.weight  # type: ignore[return-value]


def _load(config: HuggingFaceConfig, location: str, *, pretrained: bool) -> PreTrainedModel:
    options: dict[str, Any] = {"trust_remote_code": False, "revision": config.revision}
    # From a stream of its own: in parts only rank 0 draws, and what is built next must be drawn alike everywhere.
    with torch.random.fork_rng(devices=[]), transformers_in_parts() as in_parts:
        torch.manual_seed(torch.initial_seed() + 1)
        try:
            if pretrained:
                return AutoModelForImageTextToText.from_pretrained(location, dtype=torch.float32, **options)
            return _drawn(AutoConfig.from_pretrained(location, **options), in_parts=in_parts)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"backbone {location!r} cannot be loaded as an image-text-to-text model: {error}. "
                "Set backbone.model to a Hugging Face name of that kind, or to a local folder that holds one."
            ) from error


def _drawn(config: Any, *, in_parts: bool) -> PreTrainedModel:
    """Random weights, drawn module by module after construction: the order that parts are drawn in."""
    if in_parts:
        return AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    with no_init_weights():
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.init_weights()
    return model


def _extend_embedding(model: PreTrainedModel, tokens: TokenTable) -> int:
    """Put the table behind the model's embedding; returns the id of its first row."""
    text: Any = model.get_input_embeddings()
    # Image and other placeholder ids may lie past the embedding; new ids must not meet them.
    special = [value for name, value in model.config.to_dict().items() if name.endswith(("_token_id", "_token_index"))]
    first_id = max(text.num_embeddings, *(value + 1 for value in special if isinstance(value, int)), 0)
    extended = ExtendedEmbedding(text, tokens, first_id)
    extended.train(text.training)
    model.set_input_embeddings(extended)
    return first_id


def _freeze(encoder: nn.Module, model: nn.Module) -> None:
    if encoder is model:
        raise ConfigError(
            f"no vision encoder was found inside {type(model).__name__}; set backbone.freeze_vision=false."
        )
    encoder.requires_grad_(False)


def _add_adapters(model: PreTrainedModel, lora: LoraConfig) -> None:
    """Freeze everything and add low-rank adapters beside linear layers of the language model."""
    try:
        from peft import LoraConfig as PeftConfig
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise MissingDependency("backbone.lora needs peft: pip install 'lapa[train]'") from error
    targets = list(lora.target_modules) or _linear_layers(model)
    model.requires_grad_(False)
    adapters = PeftConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
    inject_adapter_in_model(adapters, model)


def _linear_layers(model: PreTrainedModel) -> list[str]:
    decoder = model.get_decoder()
    prefix = next((f"{name}." for name, module in model.named_modules() if module is decoder and name), "")
    return [prefix + name for name, module in decoder.named_modules() if isinstance(module, nn.Linear)]


def _positions(attention_mask: Int64[Tensor, "b s"]) -> Int64[Tensor, "b s"]:
    """Place of each token among the real ones."""
    return (attention_mask.long().cumsum(dim=1) - 1).clamp_min(0)
