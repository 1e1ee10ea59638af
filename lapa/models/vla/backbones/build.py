"""From a backbone's config to the backbone."""

from collections.abc import Mapping
from typing import assert_never

from lapa.config.vla import ConvolutionalBackbone as ConvolutionalConfig
from lapa.config.vla import HuggingFaceBackbone as HuggingFaceConfig
from lapa.models.vla.backbones.base import Backbone
from lapa.models.vla.backbones.convolutional import ConvolutionalBackbone
from lapa.models.vla.spec import VlaSpec


def build_backbone(spec: VlaSpec, vocabularies: Mapping[str, int], source: str | None = None) -> Backbone:
    """`source` is a folder with the backbone's own files, in place of the hub name in the spec."""
    match spec.backbone:
        case ConvolutionalConfig():
            return ConvolutionalBackbone(spec.backbone, vocabularies, spec.image_mean, spec.image_std)
        case HuggingFaceConfig():
            # transformers is optional and slow to import: only the models that need it pay for it.
            from lapa.models.vla.backbones.huggingface import HuggingFaceBackbone

            return HuggingFaceBackbone(spec.backbone, vocabularies, source)
        case _:
            assert_never(spec.backbone)
