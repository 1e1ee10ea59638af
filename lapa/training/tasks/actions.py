"""Learning recorded or labelled actions: the loss of the action head, judged beside the mean action."""

from collections.abc import Iterable, Mapping

import torch
from einops import reduce
from torch import Tensor

from lapa.models.vla.action_space import ActionSpace
from lapa.models.vla.spec import VlaSpec
from lapa.training.engine import Engine
from lapa.training.tasks.vla import VlaTask
from lapa.types.batches import Batch


class ActionTask(VlaTask):
    """Implements `lapa.training.task.Task`."""

    def __init__(self, spec: VlaSpec) -> None:
        super().__init__()
        assert spec.actions is not None, "what learns actions has an action head"
        self.space: ActionSpace = spec.actions

    def weigh(self, batch: Batch) -> float | None:
        """Timesteps inside their episode."""
        return None if batch.action_is_real is None else float(batch.action_is_real.sum())

    def losses(self, engine: Engine, batch: Batch) -> dict[str, Tensor]:
        self._look_at(engine)
        results = engine.run(batch)
        return {"total": results["action"], **results}

    def validate(self, engine: Engine, batches: Iterable[Batch]) -> dict[str, float]:
        """Error of decoded chunks on held-out episodes, beside that of always answering with the mean action."""
        self._look_at(engine)
        tally = ActionError(self.space, engine.device)
        for batch in batches:
            loss = engine.run(batch)["action"]
            actions = engine.run(batch.current, batch.instructions, batch.proprioception, method="predict_actions")
            tally.add(actions, loss, batch)
        return tally.metrics(engine)

    def verdicts(self, metrics: Mapping[str, float]) -> list[str]:
        """What the last validation means, in words. `evaluate` also compares with the median action."""
        if not metrics.get("timesteps"):
            return ["No episode was held out, so nothing is known about new observations."]
        mine, mean = metrics["normalized_mae"], metrics["mean_action/normalized_mae"]
        if mean <= 0:
            return ["The recorded actions never vary, so their error says nothing."]
        share = (
            f"held-out action error over whole chunks is {mine / mean:.0%} of the mean action's "
            f"(evaluate also names the median action's), over {metrics['timesteps']:.0f} held-out actions"
        )
        return [share if mine < mean else f"{share}: the policy does not know more than a constant answer"]


class ActionError:
    """Sums over held-out batches. k chunk length, a action dimensions."""

    def __init__(self, space: ActionSpace, device: torch.device) -> None:
        self.space, self.device = space, device
        self.timesteps = torch.zeros((), device=device, dtype=torch.float64)
        self.batches = torch.zeros((), device=device, dtype=torch.float64)
        self.loss = torch.zeros((), device=device, dtype=torch.float64)
        # Rows: absolute and squared error of the policy, then of the mean action.
        self.errors = torch.zeros(4, space.size, device=device, dtype=torch.float64)

    def add(self, predicted: Tensor, loss: Tensor, batch: Batch) -> None:
        """`predicted` b k a, in robot units."""
        assert batch.actions is not None, "the stage asks the stream for actions"
        recorded = batch.actions.double()
        is_real = torch.ones_like(recorded[..., 0]) if batch.action_is_real is None else batch.action_is_real.double()
        mean = recorded.new_tensor([dimension.mean for dimension in self.space.dimensions])
        for row, difference in ((0, predicted - recorded), (2, mean - recorded)):
            weighted = difference.double() * is_real[..., None]
            self.errors[row] += reduce(weighted.abs(), "b k a -> a", "sum")
            self.errors[row + 1] += reduce(weighted**2, "b k a -> a", "sum")
        self.timesteps += is_real.sum()
        self.loss += loss.double()
        self.batches += 1

    def metrics(self, engine: Engine) -> dict[str, float]:
        """Over all ranks: errors in robot units per dimension, and in standard deviations over all. Collective."""
        timesteps = float(engine.reduce_sum(self.timesteps))
        if not timesteps:
            return {"timesteps": 0.0}
        errors = engine.reduce_sum(self.errors) / timesteps
        loss, batches = engine.reduce_sum(torch.stack([self.loss, self.batches])).tolist()
        metrics = {"timesteps": timesteps, "loss": loss / batches}
        std = errors.new_tensor([dimension.std for dimension in self.space.dimensions])
        varies = std > 0
        for prefix, absolute, squared in (("", errors[0], errors[1]), ("mean_action/", errors[2], errors[3])):
            for i, name in enumerate(self.space.names):
                metrics[f"{prefix}mae/{name}"], metrics[f"{prefix}mse/{name}"] = float(absolute[i]), float(squared[i])
            metrics[f"{prefix}mae"], metrics[f"{prefix}mse"] = float(absolute.mean()), float(squared.mean())
            scaled = (absolute / std)[varies]
            metrics[f"{prefix}normalized_mae"] = float(scaled.mean()) if len(scaled) else 0.0
        return metrics
