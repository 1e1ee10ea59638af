"""One table and one video that several episodes of a LeRobot dataset share."""

import io

import av
import pyarrow as pa
import pyarrow.parquet as pq

from lapa.data.convert_output import OutputFolder, StoredEpisode
from lapa.errors import DataError

CAMERA = "observation.images.camera"
"""Our datasets have one camera, and do not keep its name."""
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
VIDEO_BYTES = 200 * 2**20
"""A file takes no further episode once it is this large; lerobot's own size."""


class SharedFile:
    """One table and one video that several episodes share."""

    def __init__(
        self, folder: OutputFolder, place: dict[str, int], fps: float, schema: pa.Schema, first: bytes
    ) -> None:
        self._folder = folder
        self._fps = fps
        self._frames = 0
        self._bytes = 0
        self._names = (f"data/{FILE.format(**place)}.parquet", f"videos/{CAMERA}/{FILE.format(**place)}.mp4")
        self._rows = pq.ParquetWriter(folder.path(self._names[0]), schema)
        self._container = av.open(str(folder.path(self._names[1])), "w", format="mp4")
        with av.open(io.BytesIO(first), "r") as source:
            self._stream = self._container.add_stream_from_template(source.streams.video[0])
            self._parameters = bytes(source.streams.video[0].codec_context.extradata or b"")

    @property
    def seconds(self) -> float:
        """Where the next episode begins."""
        return self._frames / self._fps

    def takes(self, data: bytes) -> bool:
        """Whether a video was encoded with the parameters of those that are here: one header serves them all."""
        with av.open(io.BytesIO(data), "r") as source:
            return bytes(source.streams.video[0].codec_context.extradata or b"") == self._parameters

    def is_full(self) -> bool:
        return self._bytes >= VIDEO_BYTES

    def add(self, table: pa.Table, episode: StoredEpisode) -> None:
        with av.open(io.BytesIO(episode.video), "r") as source:
            stream = source.streams.video[0]
            copied = 0
            for packet in source.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                assert packet.time_base is not None
                later = round(self._frames / (self._fps * packet.time_base))
                packet.pts += later
                packet.dts += later
                packet.stream = self._stream
                self._container.mux(packet)
                copied += 1
        if copied != episode.num_frames:
            raise DataError(
                f"episode {episode.id} is stored with {copied} frames, the index counts {episode.num_frames}. Delete "
                "its shard and run the ingest stage again."
            )
        self._rows.write_table(table)
        self._frames += episode.num_frames
        self._bytes += len(episode.video)

    def close(self) -> None:
        self.abandon()
        for name in self._names:
            self._folder.finish(name)

    def abandon(self) -> None:
        """Let go of the files without sending them."""
        self._rows.close()
        self._container.close()
