"""A bundle on its way from a run's folder to object storage and the registry, and what may go wrong on it."""

import json
import re
from pathlib import Path

import pytest

from lapa import files
from lapa.errors import ConfigError, PolicyError, TrackingError
from lapa.policy.manifest import verify_bundle, write_manifest
from lapa.promotion.bundles import export, find_policy, register
from lapa.stages.plan import NotMadeYet
from lapa.tracking.evidence import evaluations_of, read_outcomes
from lapa.tracking.records import Records
from lapa.tracking.registry import POLICY_MODEL, Registry
from tests.promotion.policies import Made, make_run


@pytest.fixture
def made(work: Path) -> Made:
    return make_run(work)


def test_an_exported_bundle_is_the_one_that_was_evaluated(made: Made, tmp_path: Path):
    exported = export(find_policy(made.finetune), str(tmp_path / "out"))
    assert exported.digest == made.digest == verify_bundle(exported.url)
    sent = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"manifest.json", "policy.json", "config.json", "model.safetensors"} <= sent
    assert exported.files == sum(path.is_file() for path in (tmp_path / "out").rglob("*"))


def test_a_bundle_goes_to_an_object_store_and_back(made: Made, tmp_path: Path):
    exported = export(find_policy(made.finetune), "memory://policies/there")
    alone = find_policy(exported.url)
    assert alone.result is None
    assert export(alone, str(tmp_path / "back")).digest == made.digest


def test_a_half_uploaded_bundle_is_no_bundle_and_the_export_goes_on_with_it(made: Made, tmp_path: Path):
    found, target = find_policy(made.finetune), tmp_path / "out"
    export(found, str(target))
    (target / "manifest.json").unlink()
    (target / "model" / "model.safetensors").write_bytes(b"half")
    kept = (target / "policy.json").stat().st_mtime_ns
    with pytest.raises(PolicyError, match="did not finish"):
        verify_bundle(str(target))
    assert export(found, str(target)).digest == made.digest
    assert (target / "policy.json").stat().st_mtime_ns == kept


def test_an_export_never_writes_over_another_bundle(made: Made, work: Path, tmp_path: Path):
    target = str(tmp_path / "out")
    export(find_policy(made.finetune), target)
    other = make_run(work, seed=1)
    with pytest.raises(PolicyError, match=r"already holds another bundle.*nothing was written"):
        export(find_policy(other.finetune), target)
    assert verify_bundle(target) == made.digest
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"")
    with pytest.raises(PolicyError, match=r"cat\.jpg"):
        export(find_policy(made.finetune), str(tmp_path / "photos"))


def test_a_damaged_source_is_not_exported(made: Made, tmp_path: Path):
    weights = Path(made.finetune) / "policy" / "model" / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(PolicyError, match=r"model\.safetensors.*was altered"):
        export(find_policy(made.finetune), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "data"),
    [("weights.bin", b""), ("notes.json", b"\x80\x04K\x01."), ("extra.txt", b"PK\x03\x04torch"), ("run.py", b"")],
)
def test_nothing_that_runs_code_gets_into_a_bundle(name: str, data: bytes, tmp_path: Path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(PolicyError, match="runs code when it is loaded"):
        write_manifest(tmp_path)


def test_weights_whose_header_is_as_long_as_a_pickle_begins_are_weights(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x02\x00\x00\x00\x00\x00\x00{}")
    assert write_manifest(tmp_path) == verify_bundle(str(tmp_path))


def test_what_is_no_policy_is_refused_with_the_next_move(work: Path, made: Made):
    with pytest.raises(ConfigError, match=r"is of stage laq"):
        find_policy(str(work / "laq-1"))
    with pytest.raises(ConfigError, match="neither a policy bundle"):
        find_policy(str(work / "datasets"))
    with pytest.raises(ConfigError, match=r"no folder tabeltop, and as a run: .*tabletop(?s:.*)lapactl run"):
        find_policy("tabeltop", work_url=str(work / "empty"))
    with pytest.raises(NotMadeYet):
        find_policy("tabletop", work_url=str(work))


def test_a_folder_that_is_not_there_brings_the_finished_ones_newest_first(work: Path, made: Made):
    make_run(work, seed=1)
    for seed, finished in ((0, "2026-01-01T10:00:00"), (1, "2026-01-02T10:00:00")):
        file = work / f"finetune-{seed}" / "result.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "finished": finished}))
    (work / "finetune-2").mkdir()
    (work / "finetune-3").mkdir()
    (work / "finetune-3" / "result.json").write_text("{")
    with pytest.raises(ConfigError, match=f"there is no folder {work}/finetune-9") as told:
        find_policy(str(work / "finetune-9"), work_url="memory://elsewhere")
    assert re.findall(r"finetune-\d", str(told.value)) == ["finetune-9", "finetune-1", "finetune-0"]


def test_registering_attaches_the_evaluations_that_lie_beside_the_run(
    made: Made, registry: Registry, records: Records, tmp_path: Path
):
    found = find_policy(made.finetune)
    version = register(registry, records, found, export(found, str(tmp_path / "out")), name=POLICY_MODEL).version
    (evaluation,) = evaluations_of(version)
    assert (evaluation.simulator, evaluation.episodes, evaluation.success_rate) == ("tabletop", 60, 0.9)
    assert sum(outcome.is_success for outcome in read_outcomes(evaluation, records)) == 54
    assert version.aliases == ("candidate",)
    assert version.tags["lapa.metric.success_rate"] == "0.9"
    assert records.read(version.tags["lapa.export"], "bundle/manifest.json").encode() == files.read_bytes(
        files.join(version.url, "manifest.json")
    )


def test_the_same_bundle_at_a_new_address_is_the_same_version(made: Made, registry, records, tmp_path: Path):
    found = find_policy(made.finetune)
    first = register(registry, records, found, export(found, str(tmp_path / "a")), name=POLICY_MODEL).version
    again = register(registry, records, found, export(found, str(tmp_path / "b")), name=POLICY_MODEL).version
    assert (first.version, again.version) == (1, 1)
    assert again.url == str(tmp_path / "b") and again.source == str(tmp_path / "a")


def test_a_registry_that_is_away_loses_nothing(made: Made, registry, records, tmp_path: Path):
    found = find_policy(made.finetune)
    exported = export(found, str(tmp_path / "out"))
    with pytest.raises(TrackingError, match=r"stayed away.*safe to"):
        register(Registry("http://127.0.0.1:9", wait_seconds=0.1), records, found, exported, name=POLICY_MODEL)
    again = export(found, exported.url)
    assert register(registry, records, found, again, name=POLICY_MODEL).version.digest == made.digest


def test_a_store_that_refuses_is_an_error_and_nothing_is_registered(made: Made, registry: Registry, tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file"):
        export(find_policy(made.finetune), str(tmp_path / "file" / "out"))
    assert registry.names() == []
