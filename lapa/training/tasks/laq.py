"""Training the latent-action model: reconstruct the future frame, keep the codebook alive, watch what codes mean."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import torch
from torch import Tensor

from lapa.config.latent_action import NsvqConfig, PublishedRevivalConfig, RevivalConfig, VqEmaConfig
from lapa.config.stages import LaqConfig
from lapa.data.dataset import Dataset
from lapa.errors import CodebookCollapsed
from lapa.models.latent_action.augmentation import augment
from lapa.models.latent_action.model import LATENT_ACTION_KIND, LatentActionModel, LatentActionOutput
from lapa.models.latent_action.pictures import code_atlas, reconstruction_grid
from lapa.models.latent_action.quantizers import FsqQuantizer, NsvqQuantizer, VqEmaQuantizer
from lapa.models.latent_action.revival import (
    RevivalPlan,
    is_published_revival_step,
    plan_published_revival,
    plan_revival,
    spread_sample,
)
from lapa.models.storage import save_model
from lapa.tracking.tracker import Tracker
from lapa.training.code_health import CodeTally, collapse_in_words, perplexity
from lapa.training.engine import Engine
from lapa.training.probe import ProbeEpisode, code_probe, num_fitted, probe_episodes
from lapa.types.batches import Batch, FramePair

logger = logging.getLogger(__name__)

PROBE_BATCH = 128


class LaqTask:
    """Implements `lapa.training.task.Task`.

    `probe` is a dataset with actions: with it, validation also tells how much of the true motion the codes
    explain. Pictures of reconstructions and codes go to `tracker`.
    """

    def __init__(self, config: LaqConfig, *, probe: Dataset | None = None, tracker: Tracker | None = None) -> None:
        self.config = config
        self.tracker = tracker
        self._probe_dataset = probe
        self._probe_episodes: list[ProbeEpisode] | None = None
        self._latents: list[Tensor] = []
        self._knows_initialized = False
        self._validations_below = 0
        self._repair_is_due = False
        self._validated_step = 0

    def before_update(self, engine: Engine, pieces: Sequence[Batch]) -> None:
        """Once, before the first step: the codebook starts at latents of the first batch, far apart."""
        self._latents = []
        if self._knows_initialized:
            return
        quantizer = _model(engine).quantizer
        if not bool(quantizer.initialized):
            self._initialize_codebook(engine, pieces)
            quantizer.initialized.fill_(True)
        self._knows_initialized = True

    def weigh(self, batch: Batch) -> float | None:
        return None

    def lengths(self, engine: Engine, batch: Batch) -> Sequence[int] | None:
        return None

    def losses(self, engine: Engine, batch: Batch) -> dict[str, Tensor]:
        """`total`; with supervision also its two parts, `reconstruction` and `motion`."""
        if self.config.augmentation is None:
            output: LatentActionOutput = engine.run(batch.pair)
        else:
            augmented = augment(batch.pair, self.config.augmentation)
            output = engine.run(augmented.told, augmented.seen)
        self._latents.append(output.vectors.detach())
        if self.config.supervision is None:
            return {"total": output.loss}
        head = _model(engine).motion_head
        assert head is not None and output.motion is not None and batch.motion is not None
        motion = head.loss(output.motion, batch.motion)
        total = output.loss + self.config.supervision.weight * motion
        return {"total": total, "reconstruction": output.loss, "motion": motion}

    def after_update(self, engine: Engine) -> dict[str, float]:
        """Gather usage from all ranks, move averages, revive unused codes."""
        quantizer = _model(engine).quantizer
        counts = engine.reduce_sum(quantizer.pending_usage)
        quantizer.usage += counts
        quantizer.batches_used += counts.sum(0) > 0
        match quantizer:
            case VqEmaQuantizer():
                quantizer.absorb(counts.sum(0), engine.reduce_sum(quantizer.pending_sum))
                quantizer.pending_sum.zero_()
            case FsqQuantizer():
                for statistic in (quantizer.standardize.running_mean, quantizer.standardize.running_var):
                    assert statistic is not None
                    statistic.copy_(engine.reduce_mean(statistic))
        quantizer.pending_usage.zero_()  # with one rank, `counts` is this very tensor
        return self._repair(engine) if self._repair_is_due else self._revive(engine)

    def validate(self, engine: Engine, batches: Iterable[Batch]) -> dict[str, float]:
        """Hard codes throughout: what labelling and decoding will see."""
        model = _model(engine)
        tally = CodeTally(model.config, engine.device)
        shown: LatentActionOutput | None = None
        for batch in batches:
            output: LatentActionOutput = engine.run(batch.pair)
            tally.add(output)
            shown = shown or output
        metrics = tally.metrics(engine.reduce_sum)
        metrics |= {f"probe_r2/{name}": value for name, value in self._probe(engine).items()}
        self._validated_step = engine.step
        if shown is not None:
            self._show(engine, shown)
        return metrics

    def prepare_save(self) -> None:
        """The configuration is all there is beside weights."""

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """The model alone: who labels with it needs no motion head, which the training state keeps."""
        kept = {name: value for name, value in state.items() if not name.startswith("motion_head.")}
        save_model(folder, kind=LATENT_ACTION_KIND, config=self.config.model, state=kept)

    def state(self) -> dict[str, Any]:
        return {"validations_below": self._validations_below, "repair_is_due": self._repair_is_due}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._validations_below = state.get("validations_below", 0)
        self._repair_is_due = state.get("repair_is_due", False)

    def should_stop(self, metrics: Mapping[str, float]) -> str | None:
        """The probe gate's reason, if it opened. Raises CodebookCollapsed when the codebook stays collapsed."""
        self._check_health(metrics)
        gate = self.config.gate
        if gate is None or self._validated_step < gate.min_steps:
            return None
        r2, joint = _best_probe(metrics), metrics.get("joint_perplexity", 0.0)
        if r2 is None or r2 < gate.min_r2 or joint < gate.min_joint_perplexity:
            return None
        return (
            f"the codes explain {r2:.0%} of the true motion (gate {gate.min_r2:.0%}) and {joint:.1f} latent actions "
            f"are in use (gate {gate.min_joint_perplexity:g})"
        )

    def verdicts(self, metrics: Mapping[str, float]) -> list[str]:
        """What the last validation means, in words."""
        messages = []
        if not metrics:
            messages.append(
                "No episode was held out, so nothing says how good the codes are: raise laq.stream.validation_share."
            )
        if "relative_error" in metrics:
            share = metrics["relative_error"]
            messages.append(
                f"From the first frame and the codes, the future frame is predicted with {share:.0%} of the error of "
                "repeating the first frame."
            )
        if "perplexity" in metrics:
            size = self.config.model.codebook_size
            messages.append(
                f"{metrics['perplexity']:.1f} of {size} codes and {metrics['joint_perplexity']:.1f} latent actions are "
                "in use (perplexity)."
            )
        if (r2 := _best_probe(metrics)) is not None:
            messages.append(f"A linear map from the codes explains {r2:.0%} of the robot's true motion.")
        return messages

    def _initialize_codebook(self, engine: Engine, pieces: Sequence[Batch]) -> None:
        """From the whole batch, however it is cut: memory and ranks must not decide where a codebook starts."""
        engine.model.eval()
        latents = [engine.run(piece.to(engine.device).pair, method="encode").vectors for piece in pieces]
        engine.model.train()
        self._restart(engine, engine.gather_rows(torch.cat(latents)))

    def _restart(self, engine: Engine, latents: Tensor) -> None:
        """The whole codebook, at latents that are far apart."""
        rows = torch.arange(_model(engine).quantizer.codebook_size)
        self._overwrite(engine, RevivalPlan(rows, spread_sample(latents.flatten(0, 1), len(rows))))

    def _repair(self, engine: Engine) -> dict[str, float]:
        """What a validation that found the codebook collapsed asked for."""
        self._repair_is_due = False
        self._restart(engine, engine.gather_rows(torch.cat(self._latents)))
        self._forget_usage(engine)
        return {"repaired_codes": float(_model(engine).quantizer.codebook_size)}

    def _forget_usage(self, engine: Engine) -> None:
        quantizer = _model(engine).quantizer
        quantizer.usage.zero_()
        quantizer.batches_used.zero_()

    def _revive(self, engine: Engine) -> dict[str, float]:
        quantizer = _model(engine).quantizer
        config = getattr(self.config.model.quantizer, "revival", None)
        match config:
            case RevivalConfig():
                due = engine.step % config.every == 0
            case PublishedRevivalConfig():
                due = is_published_revival_step(engine.step)
            case None:
                due = False
            case _:
                assert_never(config)
        if config is None or not due or not self._latents:
            return {}
        plan = self._plan(engine, config)
        numbers = {"perplexity": perplexity(quantizer.usage.sum(0)), "revived_codes": float(len(plan.rows))}
        self._overwrite(engine, plan)
        self._forget_usage(engine)
        return numbers

    def _plan(self, engine: Engine, config: RevivalConfig | PublishedRevivalConfig) -> RevivalPlan:
        """The rows follow from usage, so they agree on all ranks; the values are made to."""
        quantizer = _model(engine).quantizer
        codebook = self._codebook(engine)
        if isinstance(config, RevivalConfig):
            latents = engine.gather_rows(torch.cat(self._latents)).flatten(0, 1)
            return plan_revival(quantizer.usage.sum(0), latents, codebook, min_share=config.min_share)
        return plan_published_revival(
            quantizer.batches_used, codebook, batch_size=self.config.fit.batch_size, min_share=config.min_share
        )

    def _codebook(self, engine: Engine) -> Tensor:
        quantizer = _model(engine).quantizer
        if isinstance(quantizer, NsvqQuantizer):
            return engine.gathered(quantizer.codebook)
        assert isinstance(quantizer, VqEmaQuantizer)
        return quantizer.codebook

    def _overwrite(self, engine: Engine, plan: RevivalPlan) -> None:
        """Rank 0's values, on every rank. Collective."""
        if not len(plan.rows):
            return
        quantizer = _model(engine).quantizer
        values = engine.broadcast(plan.values.to(engine.device, torch.float32))
        rows = plan.rows.to(engine.device)
        if isinstance(quantizer, NsvqQuantizer):
            engine.overwrite_rows(quantizer.codebook, rows, values)
        elif isinstance(quantizer, VqEmaQuantizer):
            quantizer.codebook[rows] = values
            quantizer.weight[rows] = 1.0
        logger.info("event=codes-restarted step=%d rows=%s", engine.step, rows.tolist())

    def _probe(self, engine: Engine) -> dict[str, float]:
        """On every rank alike: all see the same labelled episodes."""
        if self._probe_dataset is None or self.config.model.codebook_size == 0:
            return {}
        if self._probe_episodes is None:
            self._probe_episodes = probe_episodes(self._probe_dataset, window_seconds=self.config.window_seconds)
        codes = [_episode_codes(engine, episode) for episode in self._probe_episodes]
        if sum(map(len, codes)) < 2:
            return {}
        motion = np.concatenate([episode.motion for episode in self._probe_episodes])
        fitted = num_fitted([len(episode) for episode in codes])
        return code_probe(np.concatenate(codes), motion, self.config.model.codebook_size, fitted=fitted)

    def _show(self, engine: Engine, output: LatentActionOutput) -> None:
        """Every rank decodes, since weights may be spread over them; rank 0's tracker draws."""
        if self.config.model.codebook_size == 0:
            return
        frame = (output.current[0] * 255).round().byte()
        atlas = code_atlas(_model(engine), frame, decode=lambda image, codes: engine.run(image, codes, method="decode"))
        pictures = {"reconstruction": reconstruction_grid(output), "code-atlas": atlas}
        for name, picture in pictures.items():
            if self.tracker is not None:
                self.tracker.log_image(picture, f"{name}-{engine.step:08d}")

    def _check_health(self, metrics: Mapping[str, float]) -> None:
        health = self.config.health
        if not health.is_collapsed(metrics):
            self._validations_below = 0
            return
        self._validations_below += 1
        words = collapse_in_words(metrics, self.config)
        message = f"At step {self._validated_step}, for {self._validations_below} validations in a row, {words}"
        if health.on_collapse != "warn" and self._validations_below >= health.patience:
            raise CodebookCollapsed(message)
        self._repair_is_due = health.on_collapse == "repair" and isinstance(
            self.config.model.quantizer, NsvqConfig | VqEmaConfig
        )
        logger.warning(message)


def _model(engine: Engine) -> LatentActionModel:
    assert isinstance(engine.model, LatentActionModel)
    return engine.model


def _episode_codes(engine: Engine, episode: ProbeEpisode) -> np.ndarray:
    """Codes of all frame pairs, m k."""
    images = torch.from_numpy(episode.frames).permute(0, 3, 1, 2)
    codes = []
    for start in range(0, len(episode.motion), PROBE_BATCH):
        current = images[start : min(start + PROBE_BATCH, len(episode.motion))]
        future = images[start + episode.window :][: len(current)]
        pair = FramePair(current=current.to(engine.device), future=future.to(engine.device))
        codes.append(engine.run(pair, method="encode").codes.cpu().numpy())
    return np.concatenate(codes)


def _best_probe(metrics: Mapping[str, float]) -> float | None:
    scores = [value for name in ("additive", "joint") if (value := metrics.get(f"probe_r2/{name}")) is not None]
    return max(scores, default=None)
