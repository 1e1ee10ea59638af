"""A few recorded actions supervise the latent-action model, through the stage itself."""

from pathlib import Path
from typing import Any

import pytest

from lapa.config.load import load_run
from lapa.config.run import RunConfig
from lapa.errors import DataError
from lapa.models.latent_action.model import load_latent_action_model
from lapa.stages.laq import main
from lapa.stages.plan import finished
from lapa.training.state_files import StateReader
from tests.builders import ACTION_DIMS, make_dataset


def run_on(folder: Path, *, actions: bool, supervision: dict[str, Any]) -> RunConfig:
    url = make_dataset(folder / "videos", episodes=6, frames=10, image_size=48, actions=actions)
    run = load_run("tabletop-smoke", [f"work_url={folder}", "videos.kind=dataset", f"videos.url={url}"])
    settings = run.model_dump(mode="json")
    settings["laq"] |= {"supervision": supervision, "augmentation": {"shift": 0.1, "brightness": 0.2}}
    settings["laq"]["fit"] |= {"steps": 3, "batch_size": 8, "validate_every": 3}
    settings["tracking"] |= {"enabled": False}
    return RunConfig.model_validate(settings)


def test_the_stage_trains_with_a_motion_head_and_leaves_a_model_without_one(tmp_path: Path) -> None:
    run = run_on(tmp_path, actions=True, supervision={"share": 0.6, "weight": 0.01})
    main(run)
    result = finished(run, "laq")
    assert result is not None
    model = load_latent_action_model(result.outputs["model"].url)
    assert not any("motion_head" in name for name in model.state_dict())
    state = StateReader(f"{result.folder}/checkpoints/step-00000003/training_state")
    assert state.read("weights/motion_head.to_motion.weight").shape == (ACTION_DIMS, 2 * 8)
    assert state.read("buffers/motion_head.std").min() > 0


def test_videos_without_actions_cannot_supervise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"set laq\.supervision to null"):
        main(run_on(tmp_path, actions=False, supervision={"share": 0.6}))
