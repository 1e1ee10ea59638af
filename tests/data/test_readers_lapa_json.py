"""The reference's finetuning JSON, as its README shows it and as its preprocessing leaves it."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from lapa.config.data import IngestConfig
from lapa.config.sources import LapaJsonSource
from lapa.data.ingest import ingest
from lapa.data.readers.build import build_reader
from lapa.errors import ConfigError, SourceError
from lapa.types.episodes import Episode
from tests.data.sources import moving_square


def write_reference(folder: Path, lengths: list[int]) -> Path:
    """Rows of the reference's README, its episodes' steps in the order of their names as text: 0, 1, 10, 11, 2 …"""
    rows = []
    for episode, length in enumerate(lengths):
        for step, frame in enumerate(moving_square(length, shade=100 + episode)):
            name = f"data/finetune_data/episode_{episode}/step_{step}"
            path = folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            rows.append(row(name, [step / 10, episode, 0, 0, 0, 0, 1.0], f"pick up the {episode}"))
    path = folder / "finetune.json"
    path.write_text(json.dumps(sorted(rows, key=lambda row: row["id"])))
    return path


def row(name: str, actions: list, instruction: str) -> dict:
    question = f"<image>\nWhat action should the robot take to `{instruction}`"
    states = {"eef_pos": [0.1, 0.2, 0.3], "gripper_state": actions[0] if actions else 0}
    return {
        "id": name,
        "image": f"{name}.png",
        "conversations": [
            {"from": "human", "value": question},
            {"from": "gpt", "raw_actions": actions, "states": states},
        ],
    }


def read_all(path: Path, **settings) -> list[Episode]:
    reader = build_reader(LapaJsonSource(url=str(path), fps=5, **settings))
    return [episode for item in reader.items() for episode in reader.read(item)]


def edit(path: Path, **changes) -> None:
    """Change keys of the answer of the first row."""
    rows = json.loads(path.read_text())
    rows[0]["conversations"][1] |= changes
    path.write_text(json.dumps(rows))


def test_rows_become_episodes_whose_steps_follow_their_numbers(tmp_path):
    first, second = read_all(write_reference(tmp_path, [12, 4]))
    assert first.actions[:, 0] == pytest.approx(np.arange(12) / 10)
    assert np.array_equal(np.stack(list(first.frames())), moving_square(12, shade=100))
    assert (first.instruction, second.instruction) == ("pick up the 0", "pick up the 1")
    assert first.proprioception[3] == pytest.approx([0.1, 0.2, 0.3, 0.3])
    assert (first.fps, len(second.actions)) == (5, 4)


def test_the_lines_that_the_reference_preprocesses_are_read_too(tmp_path):
    path = write_reference(tmp_path, [3])
    lines = []
    for step in json.loads(path.read_text()):
        (question, answer) = step.pop("conversations")
        text = question["value"].replace("<image>\n", "")
        step["instruction"] = f"<s> You are a helpful assistant. USER: {text} ASSISTANT:"
        lines.append(json.dumps(step | {"raw_actions": [str(value) for value in answer["raw_actions"]], "action": [1]}))
    (tmp_path / "finetune.jsonl").write_text("\n".join(lines))
    (episode,) = read_all(tmp_path / "finetune.jsonl")
    assert episode.instruction == "pick up the 0" and episode.actions.shape == (3, 7)


def test_pictures_in_one_folder_are_told_apart_by_a_pattern(tmp_path):
    rows = []
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"ep{number % 2}_{number // 2}.png"), moving_square(1)[0])
        rows.append(row(f"ep{number % 2}_{number // 2}", [float(number)], f"task {number % 2}"))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    first, second = read_all(tmp_path / "rows.json", episode_pattern=r"^(?P<episode>ep\d+)_")
    assert (first.actions.ravel().tolist(), second.actions.ravel().tolist()) == ([0, 2, 4], [1, 3, 5])
    with pytest.raises(ConfigError, match="group named `episode`"):
        read_all(tmp_path / "rows.json", episode_pattern="ep")


def test_pictures_elsewhere_are_found_below_the_given_folder(tmp_path):
    path = write_reference(tmp_path / "all", [3])
    moved = path.rename(tmp_path / "finetune.json")
    with pytest.raises(SourceError, match=r"3 of its 3 pictures are not below .*source\.images"):
        read_all(moved)
    assert len(read_all(moved, images=str(tmp_path / "all"))) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raw_actions": ["nan"] * 7}, "row 0 of .* has no usable"),
        ({"raw_actions": None}, "row 0 of .* has no usable"),
        ({"raw_actions": [1.0]}, "2 numbers of action dimensions"),
        ({"states": {}}, "2 numbers of states"),
    ],
)
def test_a_bad_row_costs_its_episode_alone(tmp_path, changes, message):
    path = write_reference(tmp_path, [3, 3])
    edit(path, **changes)
    source = LapaJsonSource(url=str(path), fps=5)
    report = ingest(IngestConfig(source=source, image_size=32, workers=1, max_failed_share=0.5), str(tmp_path / "out"))
    (problem,) = report.failed
    assert report.num_episodes == 1 and problem.source.endswith("episode_0")
    assert re.search(message, problem.reason), problem.reason


def test_two_instructions_for_one_folder_are_an_error(tmp_path):
    path = write_reference(tmp_path, [3])
    rows = json.loads(path.read_text())
    rows[1]["conversations"][0]["value"] = "<image>\npush it"
    path.write_text(json.dumps(rows))
    with pytest.raises(SourceError, match=r"2 instructions, .*episode_pattern"):
        read_all(path)


@pytest.mark.parametrize("text", ["[1, 2", "{", "[]"])
def test_a_file_that_is_no_list_of_rows_is_refused(tmp_path, text):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(SourceError, match=r"rows\.json"):
        build_reader(LapaJsonSource(url=str(tmp_path / "rows.json"), fps=5))
