"""A bundle in a real object store, and what is said when the store goes away."""

from pathlib import Path

import fsspec
import pytest

from lapa import files
from lapa.errors import PolicyError
from lapa.policy.manifest import verify_bundle
from lapa.promotion.bundles import export, find_policy, register
from lapa.tracking.registry import POLICY_MODEL
from tests.promotion.policies import make_run
from tests.s3_server import S3Server, s3  # noqa: F401 (fixture)


def test_a_bundle_in_s3_is_verified_registered_and_missed_when_it_is_gone(
    s3: S3Server,  # noqa: F811
    registry,
    records,
    work: Path,
):
    bucket = s3.new_bucket("policies")
    made = make_run(work)
    found = find_policy(made.finetune)
    exported = export(found, files.join(bucket, "one"))
    version = register(registry, records, found, exported, name=POLICY_MODEL).version
    assert (version.url, version.source) == ("s3://policies/one", "s3://policies/one")
    assert verify_bundle(version.url, expected=version.digest) == made.digest
    fsspec.filesystem("s3").pipe_file("policies/one/policy.json", b"{}")
    with pytest.raises(PolicyError, match=r"policy\.json in s3://policies/one was altered"):
        verify_bundle(version.url)
    fsspec.filesystem("s3").rm("policies/one/model/model.safetensors")
    with pytest.raises(PolicyError, match=r"model\.safetensors.*is missing"):
        verify_bundle(version.url)
    assert export(found, version.url).digest == made.digest, "exporting again mends what was damaged"
