"""The end of an ingest: twins, index and manifest in memory that does not grow with the clips."""

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lapa.config.conventions import Conventions
from lapa.config.data import IngestConfig, VideoFolderSource
from lapa.config.quality import QualityConfig
from lapa.data import shards
from lapa.data.dataset import Dataset
from lapa.data.fates import Fates, NumberedFates
from lapa.data.ingest_finish import finish
from lapa.data.ingest_plan import Plan
from lapa.data.ingest_records import UnitRecord
from lapa.data.ingest_report import IngestReport
from lapa.data.ingest_twins import TwinSearch
from lapa.data.quality_twins import HASH_BYTES, suspected
from lapa.errors import DataError
from lapa.report.dataset_summary import gather_facts


class Made(Plan):
    """Of units that are there already."""

    def __init__(self, units: int) -> None:
        super().__init__((), CONFIG)
        self.fingerprints = [str(number) for number in range(units)]


CONFIG = IngestConfig(source=VideoFolderSource(url="clips"), image_size=16)


def made_unit(folder: Path, number: int, names: Sequence[str], scenes: Sequence[int], **changes: object) -> UnitRecord:
    """Clips without videos; those of one scene have the same pictures."""
    rows = [
        {
            "episode": name, "shard": number, "num_frames": 4, "fps": 5.0, "instruction": f"do {scene % 3}",
            "embodiment": "arm", "licence": "unknown", "source": f"{name}.mp4", "has_actions": False, "video_offset": 0,
            "video_bytes": 0, "arrays_offset": 0, "arrays_bytes": 0, "motion": 0.5, "tags": [],
        }
        for name, scene in zip(names, scenes, strict=True)
    ]  # fmt: skip
    hashes = [np.random.default_rng(scene).bytes(HASH_BYTES).hex() for scene in scenes]
    values = {"fingerprint": str(number), "shard_bytes": 0, "rows": rows, "content": list(names), "hashes": hashes}
    record = UnitRecord.model_validate(values | changes)
    thumbs = np.stack([np.random.default_rng(scene).integers(0, 255, (4, 16, 16, 3), np.uint8) for scene in scenes])
    for part in ("_units", "shards"):
        (folder / part).mkdir(exist_ok=True, parents=True)
    (folder / "shards" / f"shard-{number:05d}.tar").write_bytes(b"")
    (folder / "_units" / f"{number:05d}.json").write_text(json.dumps(record.model_dump(mode="json")))
    (folder / "_units" / f"{number:05d}.twins.npz").write_bytes(shards.pack_arrays({"thumbs": thumbs}))
    return record


def finished(folder: Path, units: int, **quality: str) -> Dataset:
    config = CONFIG.model_copy(update={"quality": QualityConfig(**quality)})
    finish(Made(units), config, str(folder), Conventions())
    return Dataset.open(str(folder))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """These shards hold no video."""
    monkeypatch.setattr("lapa.data.ingest_twins._picture", lambda *_: "")


def test_twins_of_other_units_and_views_of_one_recording_are_named_by_what_decides(tmp_path):
    made_unit(tmp_path, 0, ["a@left", "a@right", "b"], [1, 2, 3])
    made_unit(tmp_path, 1, ["c", "d@left"], [2, 4])
    made_unit(tmp_path, 2, ["d@right", "e", "f"], [3, 5, 4])
    dataset = finished(tmp_path, 3)
    twins = dict(zip(dataset.index["episode"].to_pylist(), dataset.index["twin"].to_pylist(), strict=True))
    # c repeats a's right view, d's right view repeats b; f repeats d's left view, and so goes with b.
    assert twins == {"a@left": None, "a@right": None, "b": None, "c": "a"} | {
        "d@left": "b", "d@right": "b", "e": None, "f": "b",
    }  # fmt: skip
    tags = dict(zip(dataset.index["episode"].to_pylist(), dataset.index["tags"].to_pylist(), strict=True))
    assert [name for name, found in tags.items() if found] == ["c", "d@right", "f"]
    kept = finished(tmp_path, 3, duplicates="drop").index
    assert kept["episode"].to_pylist() == ["a@left", "a@right", "b", "d@left", "e"]
    assert kept["twin"].to_pylist() == [None, None, None, "b", None]


def test_a_unit_made_before_duplicates_were_looked_for_moves_no_mark_to_another_clip(tmp_path):
    made_unit(tmp_path, 0, ["old-1", "old-2"], [1, 1], hashes=[])
    made_unit(tmp_path, 1, ["a", "b", "c"], [2, 1, 2])
    index = finished(tmp_path, 2).index
    assert index["episode"].to_pylist()[index["tags"].to_pylist().index(["duplicates"])] == "c"


def test_an_episode_id_that_is_there_twice_is_named(tmp_path):
    made_unit(tmp_path, 0, ["a", "b"], [1, 2])
    made_unit(tmp_path, 1, ["c", "b", "a"], [3, 4, 5])
    with pytest.raises(DataError, match="more than once: b"):
        finished(tmp_path, 2)


def test_the_index_is_written_in_parts_that_hold_every_episode_once(tmp_path, monkeypatch):
    monkeypatch.setattr("lapa.data.ingest_finish._ROW_GROUP", 5)
    names = [[f"clip-{number}-{place}" for place in range(3)] for number in range(5)]
    for number, unit in enumerate(names):
        made_unit(tmp_path, number, unit, range(100 * number, 100 * number + 3))
    dataset = finished(tmp_path, 5)
    assert dataset.index["episode"].to_pylist() == [name for unit in names for name in unit]
    assert pq.ParquetFile(tmp_path / "index.parquet").num_row_groups == 3
    assert dataset.info.instructions == 3


def test_what_is_kept_of_a_clip_to_find_its_twins_is_less_than_its_thumbnails(tmp_path):
    """A third of their 3 KiB would already fail; what grows is 100 to 200 bytes."""
    record = made_unit(tmp_path, 0, [f"clip-{place}" for place in range(64)], range(64))
    for number in range(1, 32):
        for ending in ("json", "twins.npz"):
            (tmp_path / "_units" / f"{number:05d}.{ending}").hardlink_to(tmp_path / "_units" / f"00000.{ending}")

    def peak(units: int) -> int:
        search = TwinSearch(CONFIG, str(tmp_path))
        tracemalloc.start()
        try:
            for _ in range(units):
                search.add(record)
            assert search.found().repeat.sum() == 64 * (units - 1)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)  # what is loaded once
    assert (peak(32) - peak(8)) / (24 * 64) < 1024


def test_numbered_recordings_share_their_fates_like_named_ones():
    rng = np.random.default_rng(0)
    named, numbered = Fates(), NumberedFates(60)
    for later, earlier in rng.integers(0, 60, (70, 2)).tolist():
        named.join(str(later), str(earlier))
        numbered.join(later, earlier)
    roots = enumerate(numbered.roots().tolist())
    assert {str(number): str(root) for number, root in roots if root != number} == named.roots()


def test_suspects_are_the_nearest_earlier_clips_however_the_pairs_are_cut_into_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    bits = np.repeat(rng.integers(0, 256, (40, HASH_BYTES), np.uint8), 6, axis=0)
    bits ^= np.packbits(rng.random((240, 256)) < 0.02, axis=1)  # about five bits of each
    bits = bits[rng.permutation(240)]
    seconds = rng.choice([1.0, 2.0], 240)
    whole = suspected(bits, seconds, QualityConfig())
    monkeypatch.setattr("lapa.data.quality_twins._BLOCK", 7)
    np.testing.assert_array_equal(suspected(bits, seconds, QualityConfig()), whole)
    distances = np.bitwise_count(bits[:, None] ^ bits).sum(axis=2, dtype=int)
    for clip, suspects in enumerate(whole):
        found = suspects[suspects >= 0].tolist()
        alike = np.flatnonzero((distances[clip] <= QualityConfig().duplicate_bits) & (seconds == seconds[clip]))
        nearest = sorted((distances[clip, other], other) for other in alike if other < clip)
        assert found == [other for _, other in nearest][:4]


def test_the_report_counts_everything_that_failed_and_names_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr("lapa.data.ingest_tally.NAMED", 3)
    for number in range(2):
        failed = [{"source": f"{number}-{place}.mp4", "reason": "is empty"} for place in range(2)]
        made_unit(
            tmp_path, number, [f"{number}-{place}" for place in range(60)], range(60), failed=failed, skipped=failed[:1]
        )
    dataset = finished(tmp_path, 2)
    written = json.loads((tmp_path / "ingest-report.json").read_text())
    assert (written["num_failed"], written["num_skipped"], written["num_sources"]) == (4, 2, 126)
    assert [problem["source"] for problem in written["failed"]] == ["0-0.mp4", "0-1.mp4", "1-0.mp4"]
    del written["num_failed"], written["num_skipped"]
    assert IngestReport.model_validate(written).num_failed == 3, "reports from before name all"
    assert gather_facts(dataset).num_problems == 6
