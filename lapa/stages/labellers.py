"""The labeller seam: what a model of stage `laq` puts on videos. Each kind of model folder has one labeller.

t timesteps, m frame pairs, n codes per frame pair, d dimensions of one latent vector, a action dimensions.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lapa.analysis.scores import r2_scores
from lapa.data.dataset import Dataset
from lapa.data.frames import episode_arrays
from lapa.data.labels import AnyLabels, EpisodeActions, EpisodeLabels, LabellerKind, Labels
from lapa.data.windows import episode_windows, mean_actions
from lapa.errors import CheckpointMismatch, ConfigError
from lapa.models.inverse_dynamics.model import (
    INVERSE_DYNAMICS_KIND,
    InverseDynamicsModel,
    load_inverse_dynamics_model,
)
from lapa.models.latent_action.model import LATENT_ACTION_KIND, LatentActionModel, load_latent_action_model
from lapa.models.storage import model_kind
from lapa.models.vla.action_space import dimension_names
from lapa.types.batches import FramePair

Frames = UInt8[np.ndarray, "t h w 3"]

COMPARED_EPISODES = 256
"""Labelled actions are held against the recorded ones of no more episodes than this, spread evenly over the dataset."""


class Labeller(Protocol):
    """Puts a label on every timestep whose future frame is inside its episode."""

    kind: LabellerKind

    def stamp(self) -> dict[str, Any]:
        """What the labels' stamp says about the model: `LabelStamp`'s fields from `image_size` on."""

    def label(self, episode: str, frames: Frames, *, window: int, batch_size: int) -> AnyLabels:
        """Labels of one episode; none where it is shorter than the window."""

    def summary(self, labels: Labels, dataset: Dataset) -> dict[str, float]:
        """Numbers over all labels of a dataset."""


class LatentActionLabeller:
    """Codes and vectors."""

    kind: LabellerKind = "latent-action"

    def __init__(self, model: LatentActionModel) -> None:
        if not model.config.codebook_size:
            raise ConfigError(
                f"this latent-action model has quantizer kind '{model.config.quantizer.kind}': there are no codes to "
                "label with. Train one with laq.model.quantizer.kind=nsvq, vq_ema or fsq."
            )
        self.model = model

    def stamp(self) -> dict[str, Any]:
        config = self.model.config
        return {
            "image_size": config.image_size,
            "codes_per_pair": config.codes_per_pair,
            "codebook_size": config.codebook_size,
        }

    @torch.inference_mode()
    def label(self, episode: str, frames: Frames, *, window: int, batch_size: int) -> EpisodeLabels:
        """Codes (t-window, n) and vectors (t-window, n, d)."""
        codes: list[Tensor] = []
        vectors: list[Tensor] = []
        for pair in _pairs(self.model, frames, window=window, batch_size=batch_size):
            action = self.model.encode(pair)
            codes.append(action.codes.cpu())
            vectors.append(action.vectors.float().cpu())
        if not codes:
            none = (0, self.model.config.codes_per_pair)
            width = self.model.quantizer.latent_width
            return EpisodeLabels(
                episode=episode, codes=np.zeros(none, np.int64), vectors=np.zeros((*none, width), np.float32)
            )
        return EpisodeLabels(episode=episode, codes=torch.cat(codes).numpy(), vectors=torch.cat(vectors).numpy())

    def summary(self, labels: Labels, dataset: Dataset) -> dict[str, float]:
        """How the codes are used."""
        codes = np.concatenate([labels.codes_of(row) for row in range(len(dataset))])
        joint = np.unique(codes, axis=0, return_counts=True)[1] / max(len(codes), 1)
        single = np.bincount(codes.reshape(-1), minlength=self.model.config.codebook_size) / max(codes.size, 1)
        return {
            "pairs": float(len(codes)),
            "perplexity": _perplexity(single),
            "joint_perplexity": _perplexity(joint),
            "joint_codes_used": float(len(joint)),
        }


class InverseDynamicsLabeller:
    """Actions, in the robot's own units."""

    kind: LabellerKind = "inverse-dynamics"

    def __init__(self, model: InverseDynamicsModel) -> None:
        self.model = model

    def stamp(self) -> dict[str, Any]:
        spec = self.model.spec
        return {
            "image_size": spec.image_size,
            "codes_per_pair": 0,
            "codebook_size": 0,
            "action_names": spec.action_names,
        }

    @torch.inference_mode()
    def label(self, episode: str, frames: Frames, *, window: int, batch_size: int) -> EpisodeActions:
        """Actions (t-window, a)."""
        pairs = _pairs(self.model, frames, window=window, batch_size=batch_size)
        actions = [self.model.predict(pair).cpu().numpy() for pair in pairs]
        none = np.zeros((0, len(self.model.spec.action_names)), np.float32)
        return EpisodeActions(episode=episode, actions=np.concatenate([none, *actions]))

    def summary(self, labels: Labels, dataset: Dataset) -> dict[str, float]:
        """Mean and spread of the labelled actions, to hold against the robot's, and how much of the recorded ones they
        explain, where the dataset has these dimensions."""
        actions = np.concatenate([labels.actions_of(row) for row in range(len(dataset))]).astype(np.float64)
        numbers = {"pairs": float(len(actions))}
        if len(actions):
            for name, mean, std in zip(labels.stamp.action_names, actions.mean(0), actions.std(0), strict=True):
                numbers |= {f"action_mean/{name}": float(mean), f"action_std/{name}": float(std)}
        return numbers | _explained(labels, dataset)


def load_labeller(url: str, device: torch.device) -> LatentActionLabeller | InverseDynamicsLabeller:
    """The labeller for the model in a folder of stage `laq`. CheckpointMismatch when it holds no model that labels."""
    match model_kind(url):
        case "latent-action":
            return LatentActionLabeller(load_latent_action_model(url).to(device).eval())
        case "inverse-dynamics":
            return InverseDynamicsLabeller(load_inverse_dynamics_model(url).to(device).eval())
        case kind:
            raise CheckpointMismatch(
                f"{url} holds a model of kind {kind!r}, which labels nothing; labellers are {LATENT_ACTION_KIND!r} and "
                f"{INVERSE_DYNAMICS_KIND!r}. Make the stage again: lapactl run … --force laq."
            )


def _explained(labels: Labels, dataset: Dataset) -> dict[str, float]:
    """R2 against the recorded mean actions over the window, `r2` over all dimensions that vary; empty without them.

    Only told: nothing is trained on what the labels' dataset was recorded with.
    """
    names = labels.stamp.action_names
    if dimension_names(dataset.info.action_names, dataset.info.action_dims) != names:
        return {}
    has_actions = dataset.index["has_actions"].to_pylist()
    rows = [row for row in range(len(dataset)) if has_actions[row] and len(labels.actions_of(row))]
    if not rows:
        return {}
    rows = [rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, COMPARED_EPISODES).round().astype(int))]
    labelled = [labels.actions_of(row) for row in rows]
    windows = episode_windows(dataset, labels.stamp.window_seconds)[rows].tolist()
    recorded = [
        mean_actions(episode_arrays(dataset, row)["actions"], window) for row, window in zip(rows, windows, strict=True)
    ]
    episodes = np.repeat(rows, [len(actions) for actions in labelled])
    whole, dimensions = r2_scores(
        np.concatenate(recorded).astype(np.float64), np.concatenate(labelled).astype(np.float64), episodes, names
    )
    scores = {"r2": whole, **{f"r2/{name}": score for name, score in dimensions.items()}}
    return {name: score.r2 for name, score in scores.items() if score.r2 is not None}


def _pairs(
    model: LatentActionModel | InverseDynamicsModel, frames: Frames, *, window: int, batch_size: int
) -> Iterator[FramePair]:
    """All frame pairs of one episode, in batches, on the model's device."""
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).to(next(model.parameters()).device)
    last = max(len(images) - window, 0)
    for start in range(0, last, batch_size):
        stop = min(start + batch_size, last)
        yield FramePair(current=images[start:stop], future=images[start + window : stop + window])


def _perplexity(shares: np.ndarray) -> float:
    used = shares[shares > 0]
    return float(np.exp(-(used * np.log(used)).sum()))
