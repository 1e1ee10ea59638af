"""Training the supervised labeller: regress the mean action between two frames of robot episodes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import reduce
from torch import Tensor

from lapa.models.inverse_dynamics.model import INVERSE_DYNAMICS_KIND, InverseDynamicsModel, InverseDynamicsSpec
from lapa.models.storage import save_model
from lapa.training.engine import Engine
from lapa.types.batches import Batch


class InverseDynamicsTask:
    """Implements `lapa.training.task.Task`. Pairs whose motion is not known (NaN) carry no loss.

    b batch, a action dimensions.
    """

    def __init__(self, spec: InverseDynamicsSpec) -> None:
        self.spec = spec

    def before_update(self, engine: Engine, pieces: Sequence[Batch]) -> None:
        """Nothing to prepare."""

    def weigh(self, batch: Batch) -> float | None:
        """Pairs whose motion is known."""
        assert batch.motion is not None, "the stage asks the stream for motion"
        return float(batch.motion.isfinite().all(dim=-1).sum())

    def lengths(self, engine: Engine, batch: Batch) -> Sequence[int] | None:
        return None

    def losses(self, engine: Engine, batch: Batch) -> dict[str, Tensor]:
        """Squared error in standard deviations of the action."""
        assert batch.motion is not None, "the stage asks the stream for motion"
        is_known = batch.motion.isfinite().all(dim=-1)
        target = _model(engine).normalize(batch.motion.nan_to_num())
        error = (engine.run(batch.pair) - target).square().mean(dim=-1)
        return {"total": (error * is_known).sum() / is_known.sum().clamp(min=1)}

    def after_update(self, engine: Engine) -> dict[str, float]:
        return {}

    def validate(self, engine: Engine, batches: Iterable[Batch]) -> dict[str, float]:
        """Variance of the held-out episodes' action that is explained (R2), per dimension and over all that vary."""
        tally = ExplainedVariance(self.spec.action_names, engine.device)
        for batch in batches:
            assert batch.motion is not None
            is_known = batch.motion.isfinite().all(dim=-1)
            predicted = engine.run(batch.pair, method="predict")
            tally.add(predicted[is_known], batch.motion[is_known])
        return tally.metrics(engine)

    def prepare_save(self) -> None:
        """The spec is all there is beside weights."""

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        save_model(folder, kind=INVERSE_DYNAMICS_KIND, config=self.spec, state=state)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The model is all there is."""

    def should_stop(self, metrics: Mapping[str, float]) -> str | None:
        return None

    def verdicts(self, metrics: Mapping[str, float]) -> list[str]:
        """What the last validation means, in words."""
        if "r2" not in metrics:
            return [
                "No robot episode was held out, so nothing says how good the labelled actions are: raise "
                "laq.stream.validation_share."
            ]
        r2, pairs = metrics["r2"], metrics["pairs"]
        message = f"Of the held-out robot episodes' actions, {r2:.0%} is explained (R2, over {pairs:.0f} frame pairs)"
        return [message if r2 > 0 else f"{message}: labels of this model say less than the mean action does"]


class ExplainedVariance:
    """Sums over held-out pairs. a action dimensions."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = names
        # Rows: the recorded action, its square, the squared and the absolute error.
        self.sums = torch.zeros(4, len(names), device=device, dtype=torch.float64)
        self.pairs = torch.zeros((), device=device, dtype=torch.float64)

    def add(self, predicted: Tensor, recorded: Tensor) -> None:
        """Both b a, in the robot's own units."""
        truth, error = recorded.double(), (predicted - recorded).double()
        rows = torch.stack([truth, truth.square(), error.square(), error.abs()])
        self.sums += reduce(rows, "row b a -> row a", "sum")
        self.pairs += len(recorded)

    def metrics(self, engine: Engine) -> dict[str, float]:
        """Over all ranks. Collective."""
        pairs = float(engine.reduce_sum(self.pairs))
        sums = engine.reduce_sum(self.sums)
        if not pairs:
            return {"pairs": 0.0}
        mean, mean_square, squared, absolute = sums / pairs
        variance = mean_square - mean.square()
        varies = variance > 1e-9 * mean_square
        r2 = 1 - squared / variance
        metrics = {"pairs": pairs}
        for i, name in enumerate(self.names):
            metrics[f"mae/{name}"] = float(absolute[i])
            if varies[i]:
                metrics[f"r2/{name}"] = float(r2[i])
        return metrics | ({"r2": float(r2[varies].mean())} if varies.any() else {})


def _model(engine: Engine) -> InverseDynamicsModel:
    assert isinstance(engine.model, InverseDynamicsModel)
    return engine.model
