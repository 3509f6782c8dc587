# SPDX-License-Identifier: Apache-2.0
"""Memory-mapped GGUF v2/v3 reader: metadata, tensor table, raw tensor bytes.

Owns the container format and nothing above it: it must not know torch, models or tokenizers.
Format: the GGUF specification in ggml's `docs/gguf.md`. Every length, count and offset in the
file is checked against the bytes that are there before it is used, so that whatever a file holds,
reading it ends in a result or in a `GGUFError`.

Opening reads the header once. Arrays (a vocabulary has 50,000 strings) are only skipped over and
decoded when somebody asks for their elements.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.loader.ggml_types import GGML_TYPES, GGMLType

MAGIC = b"GGUF"
SUPPORTED_VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMS = 4
MAX_NAME_BYTES = 65_535  # the specification's limit for a key; tensor names have 64 there

# value type number -> (struct format, size); 8 is a string, 9 an array
_SCALARS: dict[int, tuple[str, int]] = {
    0: ("B", 1),
    1: ("b", 1),
    2: ("H", 2),
    3: ("h", 2),
    4: ("I", 4),
    5: ("i", 4),
    6: ("f", 4),
    7: ("?", 1),
    10: ("Q", 8),
    11: ("q", 8),
    12: ("d", 8),
}
_STRING, _ARRAY = 8, 9
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class GGUFError(ValueError):
    """A GGUF file that cannot be used; the message names the file, the place and the limit."""


class GGUFForeignError(GGUFError):
    """The file is not GGUF at all (or empty)."""


class GGUFTruncatedError(GGUFError):
    """A length or offset in the file points behind its end: it was cut short or is corrupt."""


class GGUFUnsupportedError(GGUFError):
    """A version, byte order or type that this reader does not know."""


class GGUFMissingError(GGUFError):
    """A metadata key or tensor that is needed and not there."""


@dataclass(frozen=True)
class TensorInfo:
    """One row of the tensor table.

    `shape` is in C order (outermost first; the file stores it innermost first), `start` the
    absolute byte offset in the file and `nbytes` the length of the data there.
    """

    name: str
    type: GGMLType
    shape: tuple[int, ...]
    start: int
    nbytes: int


class GGUFArray(Sequence[Any]):
    """A metadata array that decodes its elements on access; `list(array)` decodes them all."""

    def __init__(self, reader: _Reader, element_type: int, start: int, length: int) -> None:
        self._reader = reader
        self._type = element_type
        self._start = start
        self._length = length
        self._values: list[Any] | None = None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def __getitem__(self, index: Any) -> Any:
        return self.tolist()[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self.tolist() == list(other)

    def __hash__(self) -> int:
        return hash((self._start, self._length))

    def __repr__(self) -> str:
        return f"GGUFArray(type={self._type}, length={self._length})"

    def tolist(self) -> list[Any]:
        """All elements as Python values (decoded once, then kept)."""
        if self._values is None:
            self._values = self._reader.array_values(self._type, self._start, self._length)
        return self._values


class _Reader:
    """Cursor over the mapped bytes; every read checks the end first."""

    def __init__(self, path: Path, data: mmap.mmap | bytes) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.pos = 0

    def need(self, count: int, what: str) -> int:
        """Claim `count` bytes for `what`; returns where they start."""
        start = self.pos
        if count > self.size - start:
            raise GGUFTruncatedError(
                f"{self.path}: truncated or corrupt: {what} at byte {start} needs {count} bytes, "
                f"{self.size - start} are left of {self.size}"
            )
        self.pos = start + count
        return start

    def u32(self, what: str) -> int:
        return int(_U32.unpack_from(self.data, self.need(4, what))[0])

    def u64(self, what: str) -> int:
        return int(_U64.unpack_from(self.data, self.need(8, what))[0])

    def string(self, what: str, limit: int | None = None) -> str:
        length = self.u64(f"length of {what}")
        if limit is not None and length > limit:
            raise GGUFTruncatedError(
                f"{self.path}: corrupt: {what} is {length} bytes long, at most {limit} are allowed"
            )
        start = self.need(length, what)
        return self.text(start, length, what)

    def text(self, start: int, length: int, what: str) -> str:
        try:
            return self.data[start : start + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise GGUFError(f"{self.path}: {what} at byte {start} is not UTF-8: {error}") from None

    def count(self, what: str, smallest: int) -> int:
        """A count of items that take at least `smallest` bytes each."""
        count = self.u64(what)
        if count > (self.size - self.pos) // smallest:
            raise GGUFTruncatedError(
                f"{self.path}: truncated or corrupt: {what} is {count}, but only "
                f"{self.size - self.pos} bytes follow"
            )
        return count

    def value(self, key: str) -> Any:
        kind = self.u32(f"type of {key!r}")
        if kind == _STRING:
            return self.string(f"value of {key!r}")
        if kind == _ARRAY:
            return self.array(key)
        form, size = self.scalar(kind, key)
        start = self.need(size, f"value of {key!r}")
        return struct.unpack_from("<" + form, self.data, start)[0]

    def scalar(self, kind: int, key: str) -> tuple[str, int]:
        if kind not in _SCALARS:
            raise GGUFUnsupportedError(
                f"{self.path}: metadata {key!r} has value type {kind}; known are 0 to 12"
            )
        return _SCALARS[kind]

    def array(self, key: str) -> GGUFArray:
        kind = self.u32(f"element type of {key!r}")
        if kind == _ARRAY:
            raise GGUFUnsupportedError(f"{self.path}: metadata {key!r} is an array of arrays")
        if kind == _STRING:
            length = self.count(f"length of array {key!r}", 8)
            start = self.pos
            self.skip_strings(key, length)
            return GGUFArray(self, kind, start, length)
        _, size = self.scalar(kind, key)
        length = self.count(f"length of array {key!r}", size)
        return GGUFArray(self, kind, self.need(length * size, f"array {key!r}"), length)

    def skip_strings(self, key: str, count: int) -> None:
        """Step over `count` strings: the one loop of opening that runs per vocabulary item."""
        data, pos, last = self.data, self.pos, self.size - 8
        unpack = _U64.unpack_from
        for _ in range(count):
            if pos > last:
                pos = self.size + 1
                break
            pos += 8 + unpack(data, pos)[0]
        if pos > self.size:
            raise GGUFTruncatedError(
                f"{self.path}: truncated or corrupt: array {key!r} of {count} strings runs past "
                f"the end of the file ({self.size} bytes)"
            )
        self.pos = pos

    def array_values(self, kind: int, start: int, length: int) -> list[Any]:
        if kind != _STRING:
            form, _ = _SCALARS[kind]
            return list(struct.unpack_from(f"<{length}{form}", self.data, start))
        data, pos, unpack, out = self.data, start, _U64.unpack_from, []
        try:
            for _ in range(length):
                end = pos + 8 + unpack(data, pos)[0]
                out.append(str(data[pos + 8 : end], "utf-8"))
                pos = end
        except UnicodeDecodeError as error:
            raise GGUFError(
                f"{self.path}: array element {len(out)} at byte {pos} is not UTF-8: {error}"
            ) from None
        return out


class GGUFFile:
    """An open GGUF file. `metadata` is a dict (arrays are lazy), `tensors` the table by name.

    Raises `GGUFError` (see its subclasses) for any content it cannot use and `OSError` when the
    file cannot be opened. The mapping lives as long as this object or any view of it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        reader = _Reader(self.path, _map(self.path))
        self._data = reader.data
        tensor_count, key_count = self._read_header(reader)
        self.metadata = self._read_metadata(reader, key_count)
        self.alignment = self._read_alignment()
        self.tensors = self._read_tensors(reader, tensor_count)

    def _read_header(self, reader: _Reader) -> tuple[int, int]:
        magic = bytes(reader.data[:4])
        if magic != MAGIC:
            raise GGUFForeignError(
                f"{self.path}: not a GGUF file: it starts with {magic!r}, expected {MAGIC!r}"
            )
        reader.pos = 4
        self.version = reader.u32("version")
        if self.version not in SUPPORTED_VERSIONS:
            swapped = int.from_bytes(self.version.to_bytes(4, "little"), "big")
            order = "big-endian " if swapped in SUPPORTED_VERSIONS else ""
            shown = swapped if order else self.version
            raise GGUFUnsupportedError(
                f"{self.path}: {order}GGUF version {shown} is not supported; "
                f"little-endian versions {SUPPORTED_VERSIONS} are"
            )
        # smallest tensor row: empty name 8, dims 4, no extent, type 4, offset 8
        tensors = reader.count("tensor count", 24)
        # smallest metadata row: empty key 8, type 4, one byte of value
        return tensors, reader.count("metadata count", 13)

    def _read_metadata(self, reader: _Reader, count: int) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for index in range(count):
            key = reader.string(f"metadata key {index}", MAX_NAME_BYTES)
            if key in metadata:
                raise GGUFError(f"{self.path}: corrupt: metadata key {key!r} occurs twice")
            metadata[key] = reader.value(key)
        return metadata

    def _read_alignment(self) -> int:
        value = self.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(value, int) or value <= 0 or value & (value - 1) or value > 1 << 20:
            raise GGUFError(
                f"{self.path}: general.alignment is {value!r}, expected a power of two <= 2^20"
            )
        return value

    def _read_tensors(self, reader: _Reader, count: int) -> dict[str, TensorInfo]:
        rows = [self._read_tensor_row(reader, index) for index in range(count)]
        base = -(-reader.pos // self.alignment) * self.alignment
        tensors: dict[str, TensorInfo] = {}
        for name, kind, shape, offset in rows:
            if name in tensors:
                raise GGUFError(f"{self.path}: corrupt: tensor {name!r} occurs twice")
            tensors[name] = self._place(name, kind, shape, base, offset)
        return tensors

    def _read_tensor_row(
        self, reader: _Reader, index: int
    ) -> tuple[str, GGMLType, tuple[int, ...], int]:
        name = reader.string(f"name of tensor {index}", MAX_NAME_BYTES)
        dims = reader.u32(f"dimension count of tensor {name!r}")
        if dims > MAX_DIMS:
            raise GGUFError(
                f"{self.path}: corrupt: tensor {name!r} has {dims} dimensions, at most {MAX_DIMS}"
            )
        shape = tuple(reader.u64(f"shape of tensor {name!r}") for _ in range(dims))[::-1]
        number = reader.u32(f"type of tensor {name!r}")
        if number not in GGML_TYPES:
            raise GGUFUnsupportedError(
                f"{self.path}: tensor {name!r} has GGML type {number}, unknown to this reader"
            )
        return name, GGML_TYPES[number], shape, reader.u64(f"offset of tensor {name!r}")

    def _place(
        self, name: str, kind: GGMLType, shape: tuple[int, ...], base: int, offset: int
    ) -> TensorInfo:
        elements = 1
        for extent in shape:
            elements *= extent
        inner = shape[-1] if shape else 1
        if inner % kind.block:
            raise GGUFError(
                f"{self.path}: corrupt: tensor {name!r} of type {kind.name} has rows of {inner} "
                f"elements, which is not a multiple of {kind.block}"
            )
        nbytes = elements // kind.block * kind.size
        if offset % self.alignment:
            raise GGUFError(
                f"{self.path}: corrupt: tensor {name!r} is at offset {offset}, which is not a "
                f"multiple of the alignment {self.alignment}"
            )
        size = len(self._data)
        if base + offset + nbytes > size:
            raise GGUFTruncatedError(
                f"{self.path}: truncated or corrupt: tensor {name!r} needs bytes {base + offset} "
                f"to {base + offset + nbytes}, the file has {size}"
            )
        return TensorInfo(name, kind, shape, base + offset, nbytes)

    def require(self, key: str, kind: type | tuple[type, ...]) -> Any:
        """The metadata value of `key`, checked to be of Python type `kind`."""
        if key not in self.metadata:
            raise GGUFMissingError(f"{self.path}: metadata key {key!r} is missing")
        return self.get(key, kind)

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """As `require`, with a default where the key is absent."""
        if key not in self.metadata:
            return default
        value = self.metadata[key]
        wrong_bool = isinstance(value, bool) and kind is not bool
        if not isinstance(value, kind) or wrong_bool:
            raise GGUFError(f"{self.path}: metadata {key!r} is {value!r}, expected {kind}")
        return value

    def info(self, name: str) -> TensorInfo:
        """The table row of tensor `name`."""
        if name not in self.tensors:
            raise GGUFMissingError(f"{self.path}: tensor {name!r} is missing")
        return self.tensors[name]

    def tensor_bytes(self, name: str) -> memoryview:
        """The raw bytes of tensor `name`: mapped, not copied; writes stay in this process."""
        info = self.info(name)
        return memoryview(self._data)[info.start : info.start + info.nbytes]

    def drop_pages(self) -> None:
        """Take the file's pages out of this process; they come back from the file when read.

        What was written to tensors is lost.
        """
        if isinstance(self._data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self._data.madvise(mmap.MADV_DONTNEED)


def _map(path: Path) -> mmap.mmap | bytes:
    """Map the file copy-on-write: users may want a writable buffer, the file stays as it is."""
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except ValueError:  # mmap refuses empty files
            return b""
