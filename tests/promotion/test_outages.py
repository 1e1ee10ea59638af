"""Promotion on a real MLflow server and a real object store, each of which goes away at every step."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from mlflow_server import MlflowServer

from lapa import files
from lapa.config.run import TrackingConfig
from lapa.errors import PromotionRefused, TrackingError
from lapa.promotion.bundles import export, find_policy, register
from lapa.promotion.config import PromotionConfig
from lapa.promotion.promote import REPORT_PAGE, attempt, carry_out, open_case
from lapa.tracking.records import Records
from lapa.tracking.registry import POLICY_MODEL, Registry
from tests.promotion.policies import make_run, register_ancestors
from tests.s3_server import S3Server, s3  # noqa: F401 (fixture)


@pytest.fixture
def server(tmp_path: Path, template_store: Path) -> Iterator[MlflowServer]:
    shutil.copyfile(template_store, tmp_path / "mlflow.db")
    server = MlflowServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_whatever_goes_away_nothing_is_half_promoted_and_the_same_command_ends_it(
    s3: S3Server,  # noqa: F811
    server: MlflowServer,
    gates: PromotionConfig,
    work: Path,
):
    bucket = s3.new_bucket("robots")
    config = TrackingConfig(uri=server.uri)
    registry = Registry(server.uri, wait_seconds=3)
    records = Records.open(config, store=bucket)
    made = make_run(work)
    found = find_policy(made.finetune)

    server.kill()
    exported = export(found, files.join(bucket, "policies", "one"))
    with pytest.raises(TrackingError, match="stayed away"):
        register(registry, records, found, exported, name=POLICY_MODEL)
    server.start()
    version = register(registry, records, found, export(found, exported.url), name=POLICY_MODEL).version
    with pytest.raises(TrackingError, match="object store"):
        register_ancestors(registry, made)  # their folders are on this machine, where no server looks

    unknown_here = ("codebook", "probe", "provenance")
    chosen = PromotionConfig(gates=tuple(gate for gate in gates.gates if gate.kind not in unknown_here))
    case = open_case(registry, POLICY_MODEL)
    weights = "robots/policies/one/model/model.safetensors"
    kept = fsspec.filesystem("s3").cat_file(weights)
    fsspec.filesystem("s3").rm(weights)
    blind = attempt(registry, records, case, chosen, who="ada", force=True, reason="hurry")
    with pytest.raises(PromotionRefused, match="Not to be overruled: files"):
        carry_out(registry, blind)
    fsspec.filesystem("s3").pipe_file(weights, kept)

    judged = attempt(registry, records, case, chosen, who="ada")
    assert "passed its gates" in records.read(judged.record.run_id, REPORT_PAGE)
    server.kill()
    with pytest.raises(TrackingError, match="stayed away"):
        carry_out(registry, judged)
    with pytest.raises(TrackingError, match="could not keep"):
        records.keep("report", tags={}, texts={"a": "b"})
    server.start()
    assert "production" not in registry.aliases(POLICY_MODEL)
    carry_out(registry, judged)
    assert registry.get(POLICY_MODEL, "production").digest == version.digest
