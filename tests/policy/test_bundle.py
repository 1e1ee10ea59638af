import json

import numpy as np
import pytest
import torch

from lapa import files
from lapa.config.vla import BinnedHead, FlowHead, L1Head
from lapa.data.resize import resize
from lapa.errors import PolicyError
from lapa.models.vla.storage import save_vla
from lapa.policy.bundle import export_bundle, load_bundle
from lapa.policy.manifest import read_policy_card
from lapa.policy.policy import Policy, frames_to_images
from lapa.types.episodes import Observation
from tests.models.vla.models import seeded, small_convolutional, some_batch, spec_of, tiny_backbone

HEADS = [BinnedHead(bins=16, horizon=2), L1Head(horizon=2), FlowHead(horizon=2, width=32)]


def some_observations(number: int = 3, size: int = 24) -> list[Observation]:
    rng = np.random.default_rng(0)
    return [Observation(image=rng.integers(0, 256, (size, size, 3), dtype=np.uint8)) for _ in range(number)]


@pytest.fixture
def bundle(tmp_path):
    model = seeded(spec_of(small_convolutional(), HEADS[0], latent=False, frame_size=24))
    save_vla(tmp_path / "model", model)
    folder = tmp_path / "bundle"
    export_bundle(
        folder, str(tmp_path / "model"), lineage={"robot": "abc"}, licences={"CC-BY-4.0": 3}, resolved_run={"seed": 1}
    )
    return folder


def test_a_bundle_acts_as_the_model_it_was_exported_from(bundle, tmp_path):
    policy = load_bundle(str(bundle))
    observations, instructions = some_observations(), ["push", "go", "reach the star"]
    chunks = policy.act(observations, instructions)
    images = frames_to_images([o.image for o in observations], policy.spec)
    model = seeded(policy.spec).eval()
    expected = model.predict_actions(images, tuple(instructions)).numpy()
    assert np.allclose(np.stack([chunk.actions for chunk in chunks]), expected, atol=1e-6)
    assert {chunk.policy_digest for chunk in chunks} == {policy.digest} and len(policy.digest) == 64


def test_a_bundle_says_where_it_comes_from(bundle):
    card = read_policy_card(str(bundle))
    assert card["lineage"] == {"robot": "abc"} and card["licences"] == {"CC-BY-4.0": 3} and card["run"] == {"seed": 1}
    assert [d["name"] for d in card["action_space"]["dimensions"]] == ["x", "y", "gripper"]


def test_a_bundle_loads_from_an_object_store(bundle):
    files.upload(bundle, "memory://policies/one", last="manifest.json")
    assert load_bundle("memory://policies/one").digest == load_bundle(str(bundle)).digest


@pytest.mark.parametrize("path", ["model/model.safetensors", "model/config.json", "policy.json"])
def test_an_altered_file_is_named(bundle, path):
    data = bytearray((bundle / path).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / path).write_bytes(bytes(data))
    with pytest.raises(PolicyError, match=path.replace(".", r"\.") + ".*was altered"):
        load_bundle(str(bundle))


def test_a_missing_or_added_file_is_named(bundle):
    (bundle / "extra.json").write_text("{}")
    with pytest.raises(PolicyError, match=r"extra\.json.*not in the manifest"):
        load_bundle(str(bundle))
    (bundle / "extra.json").unlink()
    (bundle / "policy.json").unlink()
    with pytest.raises(PolicyError, match=r"policy\.json.*missing"):
        load_bundle(str(bundle))


def test_an_unfinished_export_is_refused(bundle):
    (bundle / "manifest.json").unlink()
    with pytest.raises(PolicyError, match=r"manifest\.json"):
        load_bundle(str(bundle))


def test_a_future_schema_is_refused(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text()) | {"schema_version": 99}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PolicyError, match="99"):
        load_bundle(str(bundle))


def test_a_model_without_an_action_head_is_no_policy(tmp_path):
    save_vla(tmp_path / "model", seeded(spec_of(small_convolutional())))
    with pytest.raises(PolicyError, match="finetune"):
        export_bundle(tmp_path / "bundle", str(tmp_path / "model"), lineage={}, resolved_run={})


def test_serving_sees_the_tensor_that_training_saw():
    """A camera frame goes through the resize of ingest, then equals what the stream delivers."""
    spec = spec_of(small_convolutional(), HEADS[0], latent=False, frame_size=24, frame_resize="crop")
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    stored = resize(frame, 24, "crop")
    streamed = torch.from_numpy(stored).permute(2, 0, 1)[None]
    assert torch.equal(frames_to_images([frame], spec), streamed)
    assert torch.equal(frames_to_images([stored], spec), streamed)


@pytest.mark.parametrize("head", HEADS[:2], ids=lambda head: head.kind)
def test_an_action_does_not_depend_on_what_else_was_asked(head):
    policy = Policy(seeded(spec_of(small_convolutional(), head, latent=False)))
    observations, instructions = some_observations(), ["push", "go there now", "reach the star"]
    together = policy.act(observations, instructions)
    for i in range(3):
        (alone,) = policy.act(observations[i : i + 1], instructions[i : i + 1])
        assert np.allclose(alone.actions, together[i].actions, atol=1e-5)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_actions_stay_inside_the_recorded_range(head):
    model = seeded(spec_of(small_convolutional(), head, latent=False))
    with torch.no_grad():
        for parameter in model.action_head.parameters():
            parameter.mul_(5).add_(0.1)
    for chunk in Policy(model).act(some_observations(), ["push"] * 3):
        for i, dimension in enumerate(model.spec.actions.dimensions):
            assert (chunk.actions[:, i] >= np.float32(dimension.min)).all()
            assert (chunk.actions[:, i] <= np.float32(dimension.max)).all()


@pytest.mark.parametrize("head", HEADS[1:], ids=lambda head: head.kind)
def test_a_nan_is_an_error_and_never_a_motion(head):
    model = seeded(spec_of(small_convolutional(), head, latent=False))
    with torch.no_grad():
        next(model.action_head.parameters()).fill_(float("nan"))
    with pytest.raises(PolicyError, match=r"x, y, gripper.*stop the robot"):
        Policy(model).act(some_observations(1), ["push"])


def test_damaged_weights_are_an_error_for_the_binned_head_too():
    model = seeded(spec_of(small_convolutional(), HEADS[0], latent=False))
    with torch.no_grad():
        model.action_head.logits.weight.fill_(float("nan"))
    with pytest.raises(PolicyError, match="stop the robot"):
        Policy(model).act(some_observations(1), ["push"])


def test_an_observation_without_the_wanted_proprioception_is_refused():
    policy = Policy(seeded(spec_of(small_convolutional(), HEADS[1], latent=False, proprioception_dims=2)))
    with pytest.raises(PolicyError, match="2 finite proprioception numbers"):
        policy.act(some_observations(1), ["push"])
    image = some_observations(1)[0].image
    policy.act([Observation(image=image, proprioception=np.zeros(2, dtype=np.float32))], ["push"])


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_an_image_of_another_kind_is_refused(image):
    policy = Policy(seeded(spec_of(small_convolutional(), HEADS[1], latent=False)))
    with pytest.raises(PolicyError, match="uint8 RGB"):
        policy.act([Observation(image=image)], ["push"])


def test_a_hugging_face_policy_travels_whole(tmp_path):
    model = seeded(spec_of(tiny_backbone(tmp_path / "origin", "smolvlm"), HEADS[0], latent=False))
    save_vla(tmp_path / "model", model)
    export_bundle(tmp_path / "bundle", str(tmp_path / "model"), lineage={}, resolved_run={})
    (tmp_path / "origin").rename(tmp_path / "gone")
    (tmp_path / "model").rename(tmp_path / "gone-too")
    policy = load_bundle(str(tmp_path / "bundle"))
    batch = some_batch()
    expected = model.eval().predict_actions(batch.current, batch.instructions).numpy()
    observations = [Observation(image=image.permute(1, 2, 0).numpy()) for image in batch.current]
    chunks = policy.act(observations, list(batch.instructions))
    assert np.allclose(np.stack([chunk.actions for chunk in chunks]), expected, atol=1e-5)
