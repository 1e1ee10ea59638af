"""From a policy to the files it was made from, and from a dataset to the policies made from it."""

import shutil

import pytest

from lapa.promotion.lineage import containing, lineage, source_files
from lapa.tracking.registry import POLICY_MODEL
from tests.promotion.conftest import Registered
from tests.promotion.policies import make_run


def test_lineage_goes_from_the_policy_to_the_source_files(registry, registered: Registered):
    origin = lineage(registry, registered())
    roles = {origin.role for origin in origin.walk()}
    assert roles == {"lapa-policy", "pretrain", "labels", "laq", "videos", "robot"}
    assert not [o.gap for o in origin.walk() if o.gap]
    by_role = {o.role: o for o in origin.walk()}
    assert by_role["laq"].version.name == "lapa-laq" and by_role["labels"].version is None
    assert [o.role for o in by_role["labels"].inputs] == ["laq", "videos"]
    assert source_files(by_role["videos"].url) == ["test://episode-0000", "test://episode-0001"]
    assert by_role["videos"].dataset.licences == {"CC0-1.0": 2}


def test_a_dataset_that_is_gone_or_changed_is_a_gap_and_no_error(registry, registered: Registered, work):
    version = registered()
    shutil.rmtree(work / "datasets" / "videos")
    gaps = {o.role: o.gap for o in lineage(registry, version).walk() if o.gap}
    assert set(gaps) == {"videos"} and "cannot be read" in gaps["videos"]


def test_stages_that_were_never_registered_are_read_off_their_folders(registry, registered: Registered, work):
    version = registered()
    for name in ("lapa-vla", "lapa-laq"):
        registry._client.delete_registered_model(name)
    assert {o.role for o in lineage(registry, version).walk()} >= {"pretrain", "labels", "laq", "videos"}
    shutil.rmtree(work / "pretrain-1")
    (gap,) = [o for o in lineage(registry, version).walk() if o.gap]
    assert gap.role == "pretrain"


@pytest.mark.parametrize("named", ["digest", "start", "url", "name"])
def test_a_dataset_names_the_versions_made_from_it(named: str, registry, registered: Registered, work):
    registered(seed=0)
    registered(seed=1)
    videos = make_run(work).videos
    what = {"digest": videos.digest, "start": videos.digest[:8], "url": videos.url + "/", "name": "videos"}[named]
    found = {(c.version.name, c.version.version): c.path for c in containing(registry, what)}
    assert found == {
        ("lapa-laq", 1): ("videos",),
        ("lapa-vla", 1): ("laq", "videos"),
        (POLICY_MODEL, 1): ("pretrain", "laq", "videos"),
        (POLICY_MODEL, 2): ("pretrain", "laq", "videos"),
    }


def test_a_dataset_that_nothing_was_made_from_names_nothing(registry, registered: Registered):
    registered()
    assert containing(registry, "s3://bucket/other") == []
