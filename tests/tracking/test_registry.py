"""The model registry against a real MLflow store in a file."""

from pathlib import Path

import pytest

from lapa.config.run import TrackingConfig
from lapa.errors import NotRegistered, TrackingError
from lapa.tracking.registry import LAQ_MODEL, POLICY_MODEL, ModelVersion, Registry

VIDEOS = {"videos": {"url": "s3://b/videos", "digest": "d-videos"}}


@pytest.fixture
def registry(work: Path) -> Registry:
    return Registry.open(TrackingConfig(), store=str(work), wait_seconds=5)


def model_folder(work: Path, name: str) -> str:
    folder = work / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    return str(folder)


def add(registry: Registry, work: Path, name: str, digest: str, inputs: dict[str, dict[str, str]]) -> ModelVersion:
    return registry.register(name, model_folder(work, digest), digest=digest, inputs=inputs)


def test_a_registered_model_is_found_by_number_and_by_alias(registry: Registry, work: Path) -> None:
    made = registry.register(
        LAQ_MODEL, model_folder(work, "m"), digest="d1", inputs=VIDEOS, tags={"lapa.run": "toy"}, description="first"
    )
    registry.set_alias(LAQ_MODEL, "candidate", made.version)
    found = registry.get(LAQ_MODEL, "candidate")
    assert found == registry.get(LAQ_MODEL, 1)
    assert (found.version, found.digest, found.aliases) == (1, "d1", ("candidate",))
    assert found.inputs == VIDEOS
    assert found.tags["lapa.run"] == "toy"
    assert found.description == "first"


def test_registering_the_same_files_twice_gives_the_same_version(registry: Registry, work: Path) -> None:
    first = add(registry, work, LAQ_MODEL, "d1", VIDEOS)
    second = add(registry, work, LAQ_MODEL, "d2", VIDEOS)
    again = add(registry, work, LAQ_MODEL, "d1", VIDEOS)
    assert (first.version, second.version, again.version) == (1, 2, 1)
    assert [model.version for model in registry.list_models(LAQ_MODEL)] == [2, 1]


def test_registering_again_adds_tags_and_keeps_what_there_is(registry: Registry, work: Path) -> None:
    add(registry, work, POLICY_MODEL, "d1", VIDEOS)
    url = model_folder(work, "d1")
    tags = {"lapa.metric.success_rate": "0.62"}
    again = registry.register(
        POLICY_MODEL, url, digest="d1", inputs={"policy": {"url": url, "digest": "d1"}}, tags=tags
    )
    assert again.tags["lapa.metric.success_rate"] == "0.62"
    assert again.inputs == VIDEOS


def test_an_incomplete_model_folder_is_not_registered(registry: Registry, work: Path) -> None:
    (work / "half").mkdir()
    with pytest.raises(TrackingError, match="no complete model folder"):
        registry.register(LAQ_MODEL, str(work / "half"), digest="d", inputs={})
    assert registry.names() == []


def test_an_alias_moves(registry: Registry, work: Path) -> None:
    add(registry, work, LAQ_MODEL, "d1", VIDEOS)
    add(registry, work, LAQ_MODEL, "d2", VIDEOS)
    registry.set_alias(LAQ_MODEL, "production", 1)
    registry.set_alias(LAQ_MODEL, "production", 2)
    assert [(model.version, model.aliases) for model in registry.list_models()] == [(2, ("production",)), (1, ())]


@pytest.mark.parametrize("alias", ["latest", "v3", "Champion", "a b", ""])
def test_an_alias_that_mlflow_would_confuse_is_refused(registry: Registry, alias: str) -> None:
    with pytest.raises(TrackingError, match="cannot be used"):
        registry.set_alias(LAQ_MODEL, alias, 1)


def test_an_unknown_model_is_an_error_with_the_next_move(registry: Registry) -> None:
    with pytest.raises(NotRegistered, match="lapactl models list"):
        registry.get("lapa-laq", 7)


def test_a_registry_that_is_away_is_an_error_after_a_while() -> None:
    registry = Registry("http://127.0.0.1:9", wait_seconds=0.1)
    with pytest.raises(TrackingError, match="stayed away"):
        registry.names()
