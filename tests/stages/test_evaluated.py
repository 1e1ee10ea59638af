"""Judging a policy that the run did not make: registered, a bundle, or a running server."""

from pathlib import Path

import numpy as np
import pytest
from policy_server import TOKEN, running

from lapa.config.load import load_run
from lapa.config.run import RunConfig
from lapa.config.vla import L1Head
from lapa.envs.served import ServedPolicy
from lapa.errors import ConfigError, PolicyError, TrackingError
from lapa.models.vla.storage import save_vla
from lapa.policy.bundle import export_bundle
from lapa.policy.manifest import bundle_digest, read_manifest
from lapa.stages import evaluate
from lapa.stages.evaluated import kind_of, pinned, websocket_url
from lapa.stages.plan import inputs_of, stage_folder, stages_of
from lapa.stages.results import read_result
from lapa.tracking.evidence import evaluations_of
from lapa.tracking.registry import Registry
from lapa.types.episodes import Observation
from tests.models.vla.models import seeded, small_convolutional, spec_of
from tests.tracking.conftest import template_store, work  # noqa: F401 (fixtures)

TABLETOP = ("dx", "dy")


@pytest.fixture
def bundle(work: Path) -> str:  # noqa: F811
    """A policy with the tabletop's two actions."""
    spec = spec_of(small_convolutional(), L1Head(horizon=2), latent=False, frame_size=24)
    assert spec.actions is not None
    two = spec.actions.model_copy(update={"dimensions": spec.actions.dimensions[:2]})
    named = [part.model_copy(update={"name": name}) for part, name in zip(two.dimensions, TABLETOP, strict=True)]
    two = two.model_copy(update={"dimensions": tuple(named)})
    save_vla(work / "model", seeded(spec.model_copy(update={"actions": two})))
    export_bundle(work / "bundle", str(work / "model"), lineage={}, resolved_run={})
    return str(work / "bundle")


@pytest.fixture
def registry(work: Path, bundle: str) -> Registry:  # noqa: F811
    """The policy under two names, the first one a candidate."""
    registry = Registry.open(run_of(work, "x").tracking, store=str(work), wait_seconds=5)
    digest = bundle_digest(read_manifest(bundle))
    for name in ("red-block", "lapa-policy"):
        registry.register(name, bundle, digest=digest, inputs={})
    registry.set_alias("red-block", "candidate", 1)
    return registry


def run_of(work: Path, policy: str, *settings: str) -> RunConfig:  # noqa: F811
    changes = ("evaluate.simulator.episodes=2", "evaluate.simulator.max_steps=3", *settings)
    return load_run("tabletop-smoke", [f"work_url={work}", f"evaluate.policy={policy}", *changes])


def evaluated(registry: Registry, name: str):
    return evaluations_of(registry.get(name, 1))


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        ("lapa-policy", "registered"), ("lapa-policy/3", "registered"), ("red.block@candidate", "registered"),
        ("s3://robots/red", "bundle"), ("./red", "bundle"), ("/data/red", "bundle"), ("policies/red", "bundle"),
        ("ws://lapa-policy:8000", "server"), ("https://robots.example/policy", "server"),
    ],
)  # fmt: skip
def test_a_policy_s_name_says_what_it_is(policy: str, kind: str):
    assert kind_of(policy) == kind


def test_a_servers_address_is_the_same_for_both_protocols():
    assert websocket_url("https://robots.example/p") == "wss://robots.example/p"
    assert websocket_url("ws://localhost:8000") == "ws://localhost:8000"


def test_a_registered_version_is_judged_and_every_name_of_it_gets_the_outcome(
    work: Path,  # noqa: F811
    registry: Registry,
):
    run = run_of(work, "red-block@candidate", "finetune=null", "baselines={}")
    assert "evaluate" in stages_of(run)
    evaluate.main(run)
    (mine,), (other,) = evaluated(registry, "red-block"), evaluated(registry, "lapa-policy")
    assert mine == other and (mine.episodes, mine.simulator, mine.through) == (2, "tabletop", "")
    assert float(registry.get("red-block", 1).tags["lapa.metric.episodes"]) == 2
    result = read_result(stage_folder(run, "evaluate"))
    assert result is not None and any("red-block/1" in message for message in result.messages)
    assert pinned(run).evaluate.policy == "red-block/1"  # type: ignore[union-attr]


def test_outcomes_wait_for_a_registry_that_went_away(work: Path, registry: Registry, monkeypatch):  # noqa: F811
    def away(*_: object, **__: object) -> None:
        raise TrackingError("the registry stayed away")

    run = run_of(work, "red-block/1")
    with monkeypatch.context() as patch:
        patch.setattr("lapa.stages.evaluate.attach_evaluation", away)
        with pytest.raises(TrackingError, match="stayed away"):
            evaluate.main(run)
    assert evaluated(registry, "red-block") == []
    monkeypatch.setattr("lapa.stages.evaluate._drive", away)  # nothing is driven again
    evaluate.main(run)
    assert len(evaluated(registry, "red-block")) == 1


def test_another_bundle_at_the_registered_place_is_refused(work: Path, registry: Registry):  # noqa: F811
    registry.register("lapa-policy", str(work / "bundle"), digest="0" * 64, inputs={})
    with pytest.raises(PolicyError, match="another bundle"):
        inputs_of(run_of(work, "lapa-policy/2"), "evaluate")


def test_a_running_server_is_judged_by_what_it_answers(
    work: Path,  # noqa: F811
    registry: Registry,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("LAPA_SERVER_TOKEN", f"{TOKEN}\nthe-one-before\n")  # as a Secret for servers holds them
    with running(Path(bundle)) as server:
        run = run_of(work, server.url)
        evaluate.main(run)
        answers = server.metric("requests_total", protocol="openpi", outcome="ok")
    (found,) = evaluated(registry, "red-block")
    assert answers >= 2 and found.through == server.ws_url
    loaded = run_of(work, bundle)
    evaluate.main(loaded)
    (again,) = evaluated(registry, "red-block")
    assert (again.benchmark, again.successes, again.through) == (found.benchmark, found.successes, "")


def test_a_server_that_switches_in_the_middle_ends_the_evaluation(bundle: str):
    with running(Path(bundle)) as server:
        policy = ServedPolicy(server.ws_url, digest="f" * 64, has_proprioception=False, token=TOKEN)
        grey = np.full((24, 24, 3), 127, dtype=np.uint8)
        with pytest.raises(PolicyError, match="now answers with another policy"):
            policy([Observation(image=grey)], ["reach the star"])


def test_another_policy_is_judged_in_closed_loop_or_not_at_all(work: Path):  # noqa: F811
    with pytest.raises(ConfigError, match=r"evaluate\.simulator is null"):
        load_run("tabletop-smoke", ["evaluate.simulator=null", "evaluate.policy=lapa-policy/1"])
