"""`lapa` with one setting changed: which of our choices matter, and which of the alternatives are as good.

The alternatives are those that the method names: windows, number of codes, quantizers, the decoder's target, keeping
the latent objective in finetuning. Action supervision and a target of another network's features are methods of the
study, `lapa-supervised` and `lapa-features`.
"""

from collections.abc import Callable
from typing import Any

from lapa.bench.method import Method
from lapa.bench.settings import Setting
from lapa.bench.sizes import StudySize
from lapa.config.latent_action import FsqConfig, VqEmaConfig
from lapa.config.run import RunConfig

WHERE = "in-domain"
"""The setting in which they are tried."""
Changes = Callable[[StudySize, Setting, RunConfig], dict[str, Any]]
# A codebook that collapses is a finding about the choice: go on, and show what it is worth.
_GO_ON = {"laq.health.on_collapse": "warn"}


def _codes(key: str, value: Any) -> Changes:
    """Another latent-action model."""
    return lambda size, setting, base: {key: value, **_GO_ON}


def _quantizer(config: VqEmaConfig | FsqConfig) -> Changes:
    """As many codes of the same width, found in another way."""
    return _codes("laq.model.quantizer", config.model_dump(mode="json"))


def _ablation(name: str, says: str, varies: str, changes: Changes) -> Method:
    return Method(name=name, says=says, varies=varies, changes=changes, role="ablation", settings=(WHERE,))


_WINDOW, _SIZE = "laq.window_seconds", "laq.model.quantizer.codebook_size"
_LENGTH, _QUANTIZER = "laq.model.codes_per_pair", "laq.model.quantizer.kind"
_TARGET, _LATENT = "laq.model.target.residual", "finetune.latent_loss_weight"

ABLATIONS = (
    # At ten frames a second; the half of our three frames does not exist.
    _ablation("window-short", "lapa with a window of one frame", _WINDOW, _codes(_WINDOW, 0.1)),
    _ablation("window-long", "lapa with the published window, twice ours", _WINDOW, _codes(_WINDOW, 0.6)),
    _ablation("codebook-4", "lapa with half the codes in its codebook", _SIZE, _codes(_SIZE, 4)),
    _ablation("codebook-16", "lapa with twice the codes in its codebook", _SIZE, _codes(_SIZE, 16)),
    _ablation("length-4", "lapa with the published length of a latent action, twice ours", _LENGTH, _codes(_LENGTH, 4)),
    _ablation(
        "vq-ema",
        "lapa with straight-through gradients and an averaged codebook",
        _QUANTIZER,
        _quantizer(VqEmaConfig(width=8)),
    ),
    _ablation("fsq", "lapa with finite scalar quantization", _QUANTIZER, _quantizer(FsqConfig())),
    _ablation("whole-frame", "lapa that predicts the frame and not its change", _TARGET, _codes(_TARGET, False)),
    _ablation(
        "latent-loss",
        "lapa that keeps the latent objective in finetuning",
        _LATENT,
        lambda size, setting, base: {_LATENT: 1.0},
    ),
)
