"""Released weights as the run's latent-action model, through the stage itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lapa.config.latent_action import LatentActionConfig, NsvqConfig, TransformerArchitecture
from lapa.config.load import load_run
from lapa.config.run import RunConfig
from lapa.data.dataset import Dataset
from lapa.errors import CheckpointError, CheckpointMismatch, CheckpointNotFound, ConfigError
from lapa.models.latent_action.model import LatentActionModel, build_latent_action_model, load_latent_action_model
from lapa.models.latent_action.released import read_released, released_state_dict
from lapa.stages.laq import main
from lapa.stages.learned_from import learned_from
from lapa.stages.plan import finished, inputs_of
from lapa.stages.results import StageResult
from lapa.types.batches import FramePair
from tests.builders import make_dataset

MODEL = LatentActionConfig(
    image_size=32,
    architecture=TransformerArchitecture(
        patch_size=8, width=32, spatial_depth=1, temporal_depth=1, decoder_depth=1, heads=2, head_width=16,
        released_layout=True,
    ),
    quantizer=NsvqConfig(width=8, initialization="normal"),
)  # fmt: skip


@pytest.fixture
def published() -> LatentActionModel:
    torch.manual_seed(5)
    model = build_latent_action_model(MODEL)
    return model.eval()


@pytest.fixture
def weights(published: LatentActionModel, tmp_path: Path) -> Path:
    """As the released file is: a pickled state dict, with the names that data parallelism leaves."""
    path = tmp_path / "laq_small.pt"
    torch.save({f"module.{name}": value for name, value in released_state_dict(published).items()}, path)
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One work folder: creating its tracking store takes seconds."""
    folder = tmp_path_factory.mktemp("released")
    make_dataset(folder / "videos", episodes=4, frames=8, image_size=32)
    return folder


def run_with(work: Path, weights: Path, model: LatentActionConfig = MODEL, **laq: Any) -> RunConfig:
    videos = ["videos.kind=dataset", f"videos.url={work / 'videos'}"]
    run = load_run("tabletop-smoke", [f"work_url={work}", *videos])
    settings = run.model_dump(mode="json")
    settings["laq"] |= {"model": model.model_dump(mode="json"), "released_weights": str(weights), "gate": None, **laq}
    settings["laq"]["fit"] |= {"steps": 1, "batch_size": 8, "validate_every": 1}
    return RunConfig.model_validate(settings)


def made(run: RunConfig) -> StageResult:
    main(run)
    result = finished(run, "laq")
    assert result is not None
    return result


def frame_pair() -> FramePair:
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (2, 6, 3, 32, 32), dtype=torch.uint8)
    return FramePair(current=frames[0], future=frames[1])


def test_released_weights_label_as_their_source_does(work: Path, published: LatentActionModel, weights: Path) -> None:
    run = run_with(work, weights)
    result = made(run)
    assert "nothing was trained" in result.messages[0]
    model = inputs_of(run, "label")["laq"]  # what labelling will read
    assert model == result.outputs["model"]
    ours, theirs = load_latent_action_model(model.url).encode(frame_pair()), published.encode(frame_pair())
    assert torch.equal(ours.codes, theirs.codes)
    assert torch.equal(ours.vectors, theirs.vectors)


def test_training_goes_on_from_released_weights_when_asked(
    work: Path, published: LatentActionModel, weights: Path
) -> None:
    result = made(run_with(work, weights, train_released=True))
    trained = load_latent_action_model(result.outputs["model"].url).state_dict()
    before = published.state_dict()
    moved = [(trained[name] - value).abs().max().item() for name, value in before.items() if value.is_floating_point()]
    assert 0 < max(moved) < 0.05  # one small step away, where fresh weights would be far
    known = learned_from(result.outputs["model"].url)
    assert known is not None and known.revision == Dataset.open(str(work / "videos")).revision


def test_released_weights_are_read_from_safetensors_too(published: LatentActionModel, tmp_path: Path) -> None:
    state = released_state_dict(published)
    save_file(state, tmp_path / "laq.safetensors")
    read = read_released(str(tmp_path / "laq.safetensors"))
    assert read.keys() == state.keys() and all(torch.equal(read[name], state[name]) for name in state)


def test_released_weights_need_the_released_layout(weights: Path) -> None:
    with pytest.raises(ConfigError, match=r"released_layout=true"):
        load_run("lapa", [f"laq.released_weights={weights}"])
    assert load_run("lapa-paper", [f"laq.released_weights={weights}"]).laq.released_weights == str(weights)


def test_training_on_from_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train_released needs released_weights"):
        load_run("lapa-paper", ["laq.train_released=true"])


def test_weights_of_another_size_are_refused_by_the_stage(work: Path, weights: Path) -> None:
    larger = MODEL.model_copy(update={"architecture": MODEL.architecture.model_copy(update={"spatial_depth": 2})})
    with pytest.raises(CheckpointMismatch, match="no released LAQ of this size"):
        main(run_with(work, weights, larger))


def test_a_file_that_is_absent_or_no_state_dict_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"laq\.released_weights"):
        read_released(str(tmp_path / "absent.pt"))
    (tmp_path / "text.pt").write_text("404: Not Found")
    torch.save({"model": {}, "step": 3}, tmp_path / "other.pt")
    for name in ("text.pt", "other.pt"):
        with pytest.raises(CheckpointError, match="state dict"):
            read_released(str(tmp_path / name))
