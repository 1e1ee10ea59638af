"""TFRecord files and tf.train.Example messages, without TensorFlow.

A record is `u64 length, u32 masked CRC of it, payload, u32 masked CRC of that`, little-endian.
"""

import struct
from collections.abc import Iterator
from typing import IO, Any

import crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from lapa.errors import SourceError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


def read_records(
    file: IO[bytes], name: str, *, start: int = 0, stop: int | None = None
) -> Iterator[bytes | SourceError]:
    """Payloads of the records numbered `start` to `stop`.

    A damaged payload is yielded as an error, since the next record can still be found; a damaged length is raised.
    """
    number = 0
    while stop is None or number < stop:
        header = file.read(_HEADER.size)
        if not header and stop is None:
            return
        if not header:
            raise SourceError(f"{name} ends after {number} records; {stop} are declared. Download it again.")
        length = _length(header, f"{name} record {number}")
        if number < start:
            file.seek(length + _FOOTER.size, 1)
        else:
            yield _payload(file, length, f"{name} record {number}")
        number += 1


def parse_example(payload: bytes, name: str) -> dict[str, np.ndarray | list[bytes]]:
    """Feature name to its values: float32 or int64 arrays, or a list of byte strings."""
    try:
        example = _Example.FromString(payload)
    except DecodeError as error:
        raise SourceError(f"{name} is no tf.train.Example: {error}. Download it again.") from error
    return {key: _values(feature) for key, feature in example.features.feature.items()}


def _length(header: bytes, name: str) -> int:
    if len(header) < _HEADER.size:
        raise SourceError(f"{name} is cut short. Download the file again.")
    length, checksum = _HEADER.unpack(header)
    if _masked_crc(header[:8]) != checksum:
        raise SourceError(f"{name} has a damaged length, so nothing after it can be read. Download the file again.")
    return int(length)


def _payload(file: IO[bytes], length: int, name: str) -> bytes | SourceError:
    payload, footer = file.read(length), file.read(_FOOTER.size)
    if len(payload) < length or len(footer) < _FOOTER.size:
        raise SourceError(f"{name} is cut short. Download the file again.")
    if _masked_crc(payload) != _FOOTER.unpack(footer)[0]:
        return SourceError(f"{name} does not match its checksum. Download the file again.")
    return payload


def _masked_crc(data: bytes) -> int:
    crc = crc32c.crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _values(feature: Any) -> np.ndarray | list[bytes]:
    match feature.WhichOneof("kind"):
        case "float_list":
            return np.array(feature.float_list.value, dtype=np.float32)
        case "int64_list":
            return np.array(feature.int64_list.value, dtype=np.int64)
        case "bytes_list":
            return list(feature.bytes_list.value)
        case _:
            return []


def _example_class() -> Any:
    """tensorflow/core/example/{example,feature}.proto, in a pool of its own so that TensorFlow may be loaded too."""
    proto = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    lists = (("BytesList", field.TYPE_BYTES), ("FloatList", field.TYPE_FLOAT), ("Int64List", field.TYPE_INT64))
    for name, kind in lists:
        proto.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=field.LABEL_REPEATED)
    feature = proto.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, _) in enumerate(lists, start=1):
        feature.field.add(
            name=name.removesuffix("List").lower() + "_list",
            number=number,
            type=field.TYPE_MESSAGE,
            type_name=f".tensorflow.{name}",
            label=field.LABEL_OPTIONAL,
            oneof_index=0,
        )
    features = proto.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=field.TYPE_MESSAGE, type_name=".tensorflow.Feature", label=field.LABEL_OPTIONAL
    )
    features.field.add(
        name="feature",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow.Features.FeatureEntry",
        label=field.LABEL_REPEATED,
    )
    proto.message_type.add(name="Example").field.add(
        name="features", number=1, type=field.TYPE_MESSAGE, type_name=".tensorflow.Features", label=field.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_Example = _example_class()
