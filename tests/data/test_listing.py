"""Listings of folders and buckets: in order, page by page, however many files there are."""

import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import fsspec
import pytest

from lapa.config.data import IngestConfig, VideoFolderSource
from lapa.data.ingest_plan import Plan
from lapa.data.readers import listing
from lapa.data.readers.base import list_files
from lapa.data.readers.build import build_reader
from lapa.data.readers.listing import first_names, walk_files

NAMES = ["a-b.mp4", "a/x.mp4", "a/y/deep.mp4", "a/y.mp4", "a.mp4", "ä/ö.mp4", ".hidden/z.mp4", "a/.part.mp4", "z.txt"]


def write_names(folder: Path, names: Iterable[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * len(name))
    return folder


def planned_bytes(url: str) -> int:
    """Largest memory of Python objects while an ingest of a folder's videos is planned."""
    config = IngestConfig(source=VideoFolderSource(url=url), episodes_per_shard=100)
    reader = build_reader(config.source)
    tracemalloc.start()
    plan = Plan(reader.items(), config)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert plan.num_items in (2000, 12_000)
    return peak


def test_files_come_in_the_order_of_their_names_with_what_is_needed_of_each(tmp_path):
    write_names(tmp_path, NAMES)
    walked = list(walk_files(str(tmp_path)))
    assert [file.name for file in walked] == sorted(name for name in NAMES if "/." not in name and name[0] != ".")
    assert {file.name: file for file in walked} == list_files(str(tmp_path))


def test_one_file_is_a_listing_of_its_own(tmp_path):
    write_names(tmp_path, ["a.mp4"])
    assert [file.name for file in walk_files(str(tmp_path / "a.mp4"))] == ["a.mp4"]
    assert list(walk_files(str(tmp_path / "nothing"))) == []


def test_stores_in_memory_are_listed_alike(tmp_path):
    fs = fsspec.filesystem("memory")
    for name in NAMES:
        fs.pipe_file(f"/listing-test/{name}", b"x")
    walked = [file.name for file in walk_files("memory://listing-test")]
    assert walked == sorted(name for name in NAMES if "/." not in name and name[0] != ".")
    fs.rm("/listing-test", recursive=True)


class Bucket:
    """What the listing asks of an S3 file system, of keys in memory, a hundred in an answer."""

    protocol = "s3"

    def __init__(self, keys: Iterable[str], *, starts_after: bool = True) -> None:
        self.keys, self.starts_after, self.requests = sorted(keys), starts_after, 0

    def invalidate_cache(self) -> None: ...

    def call_s3(self, method, *, Bucket, Prefix, StartAfter="", Delimiter="", ContinuationToken=""):  # noqa: N803
        assert method == "list_objects_v2"
        self.requests += 1
        if StartAfter and not self.starts_after:
            raise OSError("NotImplemented: StartAfter")
        first = max(StartAfter, ContinuationToken)
        keys = [key for key in self.keys if key.startswith(Prefix) and key > first]
        if Delimiter and any("/" in key.removeprefix(Prefix) for key in keys):
            return {
                "CommonPrefixes": [{"Prefix": folder} for folder in sorted({f"{key.split('/')[0]}/" for key in keys})]
            }
        page = [{"Key": key, "Size": 1, "ETag": "e"} for key in keys[:100]]
        return {"Contents": page, "IsTruncated": len(keys) > 100, "NextContinuationToken": page[-1]["Key"]}


@pytest.mark.parametrize("starts_after", [True, False])
@pytest.mark.parametrize("large", [(), (0,), (7,), (39,), (3, 4, 20), range(40)])
def test_a_large_folder_leaves_the_small_ones_after_it_together(monkeypatch, large, starts_after):
    sizes = {folder: 150 if folder in large else 2 for folder in range(40)}
    keys = [f"{folder:03d}/{number:03d}.mp4" for folder, size in sizes.items() for number in range(size)]
    bucket = Bucket(keys, starts_after=starts_after)
    monkeypatch.setattr(listing, "url_to_fs", lambda url: (bucket, "bucket"))
    assert [file.name for file in walk_files("s3://bucket")] == keys
    if starts_after and len(large) < 2:
        assert bucket.requests < 8


def test_a_listing_that_is_not_used_up_ends_its_threads(tmp_path):
    write_names(tmp_path, (f"{folder:03d}/{number}.mp4" for folder in range(40) for number in range(3)))
    assert next(walk_files(str(tmp_path))).name == "000/0.mp4"
    assert len(list(walk_files(str(tmp_path)))) == 120
    assert first_names(str(tmp_path))[:2] == ["000", "001"]


def test_a_plan_does_not_grow_with_the_number_of_files(tmp_path):
    few = write_names(tmp_path / "few", (f"{n // 100:04d}/clip-{n % 100:04d}.mp4" for n in range(2000)))
    many = write_names(tmp_path / "many", (f"{n // 100:04d}/clip-{n % 100:04d}.mp4" for n in range(12_000)))
    planned_bytes(str(few))  # imports and caches
    assert planned_bytes(str(many)) < 1.3 * planned_bytes(str(few)) + 2**20
