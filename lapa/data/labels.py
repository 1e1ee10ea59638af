"""Labels beside a dataset: one Parquet file per shard, and `labels.json` written last.

They hold latent actions, or actions that an inverse-dynamics model put on the frames; the stamp says which.

t labelled timesteps, n codes per frame pair, d dimensions of one latent vector, a action dimensions.
"""

import io
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal, Self, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Float32, Int64

from lapa import files
from lapa.data.dataset import Dataset
from lapa.data.label_files import (
    FOOTER_KEY,
    MANIFEST_FILE,
    SCHEMA_VERSION,
    Footer,
    LabellerKind,
    LabelStamp,
    Manifest,
    file_name,
    footer_in,
    opened,
    read_footer,
    read_manifest,
    refuse_difference,
)
from lapa.data.label_table import (
    AnyLabels,
    EpisodeActions,
    EpisodeLabels,
    action_columns,
    label_table,
    label_values,
    latent_columns,
)
from lapa.data.parquet import read_parquet
from lapa.errors import DataError, LabelMismatch

logger = logging.getLogger(__name__)

_SHARDS_IN_MEMORY = 256

__all__ = ["AnyLabels", "EpisodeActions", "EpisodeLabels", "LabelStamp", "LabelWriter", "LabellerKind", "Labels"]


class LabelWriter:
    """Writes labels shard by shard, each whole or not at all, so that labelling can stop and go on.

    Equal labels give equal bytes, so several writers of one URL do no harm.
    """

    def __init__(self, url: str, stamp: LabelStamp) -> None:
        self.url = url
        self.stamp = stamp

    def missing_shards(self, dataset: Dataset) -> list[int]:
        """Shards still to label. Raises LabelMismatch where finished labels of another stamp lie here."""
        manifest_url = files.join(self.url, MANIFEST_FILE)
        if files.exists(manifest_url):
            refuse_difference(read_manifest(manifest_url).stamp, self.stamp, self.url)
        return self.lacks(range(dataset.info.num_shards))

    def lacks(self, shards: Sequence[int]) -> list[int]:
        """Those of the shards that have no labels of this stamp yet."""
        there = set(files.list_names(self.url))
        return [shard for shard in shards if file_name(shard) not in there or not self._is_labelled(shard)]

    def write_shard(self, shard: int, episodes: Sequence[AnyLabels]) -> None:
        """Labels of all episodes of one shard, in its order; an episode shorter than the window has t = 0."""
        table = label_table(episodes, self._columns(episodes))
        footer = Footer(
            stamp=self.stamp,
            episodes={labels.episode: len(labels) for labels in episodes},
            digest=files.digest(*(column.to_numpy().tobytes() for column in label_values(table))),
        )
        buffer = io.BytesIO()
        metadata = {FOOTER_KEY: footer.model_dump_json(exclude_defaults=True).encode()}
        pq.write_table(table.replace_schema_metadata(metadata), buffer, compression="zstd")
        files.write_bytes(self._shard_url(shard), buffer.getvalue())

    def finish(self, dataset: Dataset) -> str:
        """Write the manifest, which makes the labels complete, and return their digest.

        Raises DataError where shards are missing, or hold other episodes than the dataset's.
        """
        missing = self.missing_shards(dataset)
        if missing:
            raise DataError(
                f"{self.url} lacks labels of {len(missing)} of {dataset.info.num_shards} shards, the first is "
                f"{file_name(missing[0])}. Run the label stage again: it continues where it stopped."
            )
        footers = [read_footer(self._shard_url(shard)) for shard in range(dataset.info.num_shards)]
        first_rows = _first_rows(dataset)
        ids = dataset.index["episode"].to_pylist()
        for footer, first, end in zip(footers, first_rows, [*first_rows[1:], len(ids)], strict=True):
            if list(footer.episodes) != ids[first:end]:
                raise DataError(
                    f"{self.url} holds labels of other episodes than {dataset.url} has from row {first} on. "
                    f"Remove {self.url} and run the label stage again."
                )
        digest = files.digest(self.stamp.as_json(), *(footer.digest for footer in footers))
        manifest = Manifest(schema_version=SCHEMA_VERSION, stamp=self.stamp, digest=digest, first_rows=first_rows)
        files.write_json(files.join(self.url, MANIFEST_FILE), manifest.model_dump(mode="json", exclude_defaults=True))
        return digest

    def _columns(self, episodes: Sequence[AnyLabels]) -> dict[str, pa.Array]:
        match self.stamp.labeller_kind:
            case "latent-action":
                latent = [labels for labels in episodes if isinstance(labels, EpisodeLabels)]
                assert len(latent) == len(episodes), "the stamp promises latent actions"
                return latent_columns(latent, codes_per_pair=self.stamp.codes_per_pair)
            case "inverse-dynamics":
                actions = [labels for labels in episodes if isinstance(labels, EpisodeActions)]
                assert len(actions) == len(episodes), "the stamp promises actions"
                return action_columns(actions, dims=len(self.stamp.action_names))
            case _:
                assert_never(self.stamp.labeller_kind)

    def _is_labelled(self, shard: int) -> bool:
        try:
            return read_footer(self._shard_url(shard)).stamp == self.stamp
        except DataError as error:
            logger.warning("shard=%d labels are written anew: %s", shard, error)
            return False

    def _shard_url(self, shard: int) -> str:
        return files.join(self.url, file_name(shard))


class Labels:
    """Finished labels. Shards are read when first asked for; only the latest ones stay in memory."""

    def __init__(self, url: str, stamp: LabelStamp, digest: str, first_rows: Sequence[int]) -> None:
        self.url = url
        self.stamp = stamp
        self.digest = digest
        """Names these very labels."""
        self._first_rows = np.asarray(first_rows)
        self._targets: OrderedDict[int, list[np.ndarray]] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url, self.stamp, self.digest, self._first_rows.tolist())

    @classmethod
    def open(cls, url: str) -> Self:
        """Raises DataError where there are no finished labels."""
        manifest_url = files.join(url, MANIFEST_FILE)
        if not files.exists(manifest_url):
            raise DataError(
                f"{url} holds no {MANIFEST_FILE}, so no finished labels. Check the URL, or run the label stage "
                "again: it continues where it stopped."
            )
        manifest = read_manifest(manifest_url)
        return cls(url, manifest.stamp, manifest.digest, manifest.first_rows)

    def check(
        self,
        dataset: Dataset,
        *,
        window_seconds: float,
        labeller_digest: str | None = None,
        labeller_kind: LabellerKind = "latent-action",
    ) -> None:
        """Raises LabelMismatch unless the labels belong to this dataset, window, kind and (when given) labeller."""
        wanted: dict[str, Any] = {
            "dataset_revision": dataset.revision,
            "window_seconds": window_seconds,
            "labeller_kind": labeller_kind,
        }
        if labeller_digest is not None:
            wanted["labeller_digest"] = labeller_digest
        refuse_difference(self.stamp, self.stamp.model_copy(update=wanted), self.url)

    def codes_of(self, row: int) -> Int64[np.ndarray, "t n"]:
        """Codes of one episode, by its row in the dataset's index; t = 0 where it is shorter than the window."""
        return self._target_of(row, "codes").astype(np.int64)

    def actions_of(self, row: int) -> Float32[np.ndarray, "t a"]:
        """Actions of one episode, in the robot's units; t = 0 where it is shorter than the window."""
        return self._target_of(row, "actions")

    def vectors_of(self, row: int) -> Float[np.ndarray, "t n d"]:
        """Latents of one episode before quantization, float16. Reads the episode's whole shard."""
        shard, place = self._place(row)
        vectors = self._read(shard, "vectors")[place]
        n = self.stamp.codes_per_pair
        return vectors.reshape(len(vectors), n, vectors.shape[1] // n)

    def _target_of(self, row: int, column: Literal["codes", "actions"]) -> np.ndarray:
        """What training reads again and again; labels of one kind have one such column."""
        holds = "codes" if self.stamp.labeller_kind == "latent-action" else "actions"
        if column != holds:
            raise LabelMismatch(
                f"labels at {self.url} are of labeller_kind={self.stamp.labeller_kind} and hold {holds}, not {column}. "
                "Set pretrain.target.kind to what laq.labeller gives."
            )
        shard, place = self._place(row)
        if shard not in self._targets:
            self._targets[shard] = self._read(shard, column)
            if len(self._targets) > _SHARDS_IN_MEMORY:
                self._targets.popitem(last=False)
        return self._targets[shard][place]

    def _place(self, row: int) -> tuple[int, int]:
        """Shard of an episode, and its place inside the shard."""
        shard = int(np.searchsorted(self._first_rows, row, side="right")) - 1
        return shard, row - int(self._first_rows[shard])

    def _read(self, shard: int, column: str) -> list[np.ndarray]:
        """One list column of a shard, cut at the episodes: t × length each."""
        url = files.join(self.url, file_name(shard))
        with opened(url) as file:
            table = read_parquet(file, [column])
        footer = footer_in(table.schema.metadata, url)
        if footer.stamp != self.stamp:
            raise LabelMismatch(f"{url} carries another stamp than {MANIFEST_FILE}. Run the label stage again.")
        lists = table[column].combine_chunks()
        values = lists.flatten().to_numpy().reshape(table.num_rows, lists.type.list_size)
        return np.split(values, np.cumsum(list(footer.episodes.values()))[:-1])


def _first_rows(dataset: Dataset) -> list[int]:
    shards = dataset.index["shard"].to_numpy()
    return [int(row) for row in np.searchsorted(shards, np.arange(dataset.info.num_shards))]
