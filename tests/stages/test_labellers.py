"""The labeller seam: a model folder says what labels it makes, and its labels what they are worth."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from lapa.config.load import load_run
from lapa.data.dataset import INFO_FILE, Dataset
from lapa.data.frames import episode_arrays
from lapa.data.labels import EpisodeActions, Labels, LabelStamp, LabelWriter
from lapa.data.windows import mean_actions
from lapa.errors import CheckpointMismatch, ConventionMismatch
from lapa.files import write_json
from lapa.models.inverse_dynamics.model import INVERSE_DYNAMICS_KIND, InverseDynamicsModel, InverseDynamicsSpec
from lapa.models.latent_action.model import LATENT_ACTION_KIND, build_latent_action_model
from lapa.models.storage import save_model
from lapa.stages import label
from lapa.stages.labellers import InverseDynamicsLabeller, LatentActionLabeller, load_labeller
from lapa.stages.learned_from import keep_learned_from, refuse_other_frames
from lapa.stages.results import Artifact
from lapa.types.batches import FramePair
from tests.builders import make_dataset
from tests.training.laq import laq_config

SPEC = InverseDynamicsSpec(
    image_size=24, width=8, blocks=(1, 1), action_names=("x", "gripper"), action_mean=(5.0, 0.5), action_std=(2.0, 1.0)
)
CPU = torch.device("cpu")


def film(count, size=24):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def as_episode(frames):
    return frames.permute(0, 2, 3, 1).numpy()


def test_each_kind_of_model_gets_its_labeller(tmp_path):
    config, actions = laq_config().model, InverseDynamicsModel(SPEC)
    codes = build_latent_action_model(config)
    save_model(tmp_path / "codes", kind=LATENT_ACTION_KIND, config=config, state=codes.state_dict())
    save_model(tmp_path / "actions", kind=INVERSE_DYNAMICS_KIND, config=SPEC, state=actions.state_dict())
    save_model(tmp_path / "other", kind="vla", config=SPEC, state=actions.state_dict())
    by_codes, by_actions = (load_labeller(str(tmp_path / name), CPU) for name in ("codes", "actions"))
    assert isinstance(by_codes, LatentActionLabeller) and by_codes.stamp()["codebook_size"] == 4
    assert isinstance(by_actions, InverseDynamicsLabeller) and by_actions.stamp()["action_names"] == ("x", "gripper")
    with pytest.raises(CheckpointMismatch, match="'vla', which labels nothing; labellers are 'latent-action' and"):
        load_labeller(str(tmp_path / "other"), CPU)


def test_frames_unlike_those_a_model_learned_from_are_not_labelled(tmp_path):
    dataset = Dataset.open(make_dataset(tmp_path / "videos", episodes=2, frames=4))
    model = str(tmp_path / "model")
    refuse_other_frames(model, dataset, 0.6, role="robot")  # released weights say nothing
    keep_learned_from(model, dataset, 0.6)
    refuse_other_frames(model, dataset, 0.6, role="robot")
    with pytest.raises(ConventionMismatch, match=r"over 0\.6 seconds, .* set laq\.window_seconds=0\.6"):
        refuse_other_frames(model, dataset, 1.2, role="robot")
    squashed = replace(dataset, info=dataset.info.model_copy(update={"resize": "squash"}))
    with pytest.raises(ConventionMismatch, match=r"by 'crop', and those of 'robot' .* ingest 'robot' with resize=crop"):
        refuse_other_frames(model, squashed, 0.6, role="robot")


def test_a_dataset_that_must_be_refused_is_refused_before_anything_is_labelled(tmp_path, monkeypatch):
    urls = {
        "videos": make_dataset(tmp_path / "videos", episodes=2, frames=4),
        "robot": make_dataset(tmp_path / "robot", episodes=2, frames=4),
    }
    known, model = Dataset.open(urls["videos"]), str(tmp_path / "model")
    keep_learned_from(model, known, load_run("tabletop-smoke").laq.window_seconds)
    info = known.info.model_copy(update={"resize": "squash"})
    write_json(f"{urls['robot']}/{INFO_FILE}", info.model_dump(mode="json"))
    inputs = {role: Artifact(url=url, digest="") for role, url in {"laq": model, **urls}.items()}
    stage = SimpleNamespace(inputs=inputs, run=load_run("tabletop-smoke"))
    monkeypatch.setattr(label, "open_stage", lambda *_: nullcontext(stage))
    monkeypatch.setattr(label, "load_labeller", lambda *_: pytest.fail("a labeller was loaded"))
    with pytest.raises(ConventionMismatch, match="those of 'robot'"):
        label.main(stage.run)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_an_episode_is_labelled_pair_by_pair_whatever_the_batch(batch_size):
    model, frames = InverseDynamicsModel(SPEC).eval(), film(10)
    labeller = InverseDynamicsLabeller(model)
    labels = labeller.label("e", as_episode(frames), window=3, batch_size=batch_size)
    assert labels.actions.shape == (7, 2)
    wanted = model.predict(FramePair(current=frames[:7], future=frames[3:]))
    torch.testing.assert_close(torch.from_numpy(labels.actions), wanted, atol=1e-5, rtol=1e-5)
    assert len(labeller.label("short", as_episode(frames[:3]), window=3, batch_size=4)) == 0


def labelled_with(dataset: Dataset, url: Path, noise: float, names: tuple[str, ...]) -> Labels:
    """The true mean actions over 3 timesteps, and noise; the last episode is shorter than that."""
    random = np.random.default_rng(0)
    stamp = LabelStamp(
        dataset_revision=dataset.revision, labeller_digest="m", labeller_kind="inverse-dynamics", window_seconds=0.3,
        image_size=24, codes_per_pair=0, codebook_size=0, action_names=names,
    )  # fmt: skip
    episodes = []
    for row, name in enumerate(dataset.index["episode"].to_pylist()):
        count = max(dataset.index["num_frames"][row].as_py() - 3, 0)
        actions = episode_arrays(dataset, row).get("actions", np.zeros((count + 3, len(names)), np.float32))
        true = mean_actions(actions, 3)
        episodes.append(EpisodeActions(episode=name, actions=true + random.normal(0, noise, true.shape)))
    writer = LabelWriter(str(url), stamp)
    writer.write_shard(0, episodes)
    writer.finish(dataset)
    return Labels.open(str(url))


def test_labelled_actions_are_held_against_the_recorded_ones(tmp_path):
    dataset = Dataset.open(make_dataset(tmp_path / "videos", frames=[9, 12, 8, 2]))
    labels = labelled_with(dataset, tmp_path / "labels", 1.0, ("x", "y", "z"))
    summary = InverseDynamicsLabeller(InverseDynamicsModel(SPEC)).summary(labels, dataset)
    true = np.concatenate([mean_actions(episode_arrays(dataset, row)["actions"], 3) for row in range(3)])
    guess = np.concatenate([labels.actions_of(row) for row in range(3)])
    expected = r2_score(true, guess, multioutput="raw_values")
    assert [summary[f"r2/{name}"] for name in "xyz"] == pytest.approx(expected, rel=1e-4)
    assert summary["r2"] == pytest.approx(expected.mean(), rel=1e-4)
    assert 0 < summary["r2/y"] < 0.95 and summary["pairs"] == len(true)


@pytest.mark.parametrize(("recorded", "names"), [(False, ("x", "y", "z")), (True, ("dx", "dy", "dz"))])
def test_labels_without_recorded_actions_of_their_dimensions_claim_no_agreement(tmp_path, recorded, names):
    dataset = Dataset.open(make_dataset(tmp_path / "videos", episodes=3, frames=8, actions=recorded))
    labels = labelled_with(dataset, tmp_path / "labels", 0.1, names)
    summary = InverseDynamicsLabeller(InverseDynamicsModel(SPEC)).summary(labels, dataset)
    assert not any(name.startswith("r2") for name in summary) and f"action_mean/{names[0]}" in summary
