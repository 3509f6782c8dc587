# SPDX-License-Identifier: Apache-2.0
"""Frames to messages and messages to frames, for both ends of the wire.

Owns MessagePack, the form of arrays, and frames that travel beside the MessagePack one. Must not
know sockets, nor what a message asks for. Reading never raises anything but ``DecodeError``.

An array is ``[dtype, shape, data]``. Its bytes stand in the message as extension 3, or, from
``ZERO_COPY_THRESHOLD`` bytes on, in a frame of their own whose number takes the place of ``data``;
frame 0 is the MessagePack frame. Extensions 1 and 2 are pickles and refused.

Encoders and decoders keep state while they work: one of each per thread.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np

from vllm.protocol.errors import INTERNAL_ERROR, DecodeError, EncodeError
from vllm.protocol.messages import (
    ENGINE_CORE_DEAD,
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreRequest,
    NestedTensors,
    RequestType,
    SchedulerStats,
    StartWave,
    Tensor,
    UtilityOutput,
    UtilityRequest,
)

ZERO_COPY_THRESHOLD = 256
"""Arrays of at least this many bytes travel in a frame of their own."""
MAX_PAYLOAD_BYTES = 256 * 2**20
"""Limit of a MessagePack frame; a prompt of a million tokens takes 5 MB."""
MAX_FRAME_BYTES = 2**30
"""Limit of any frame; sockets are told to close connections that announce more."""
MAX_FRAMES = 65_536
MAX_DIMENSIONS = 16
MAX_ELEMENTS = 2**31

_EXT_PICKLE, _EXT_CLOUDPICKLE, _EXT_RAW = 1, 2, 3

Buffer = bytes | memoryview
T = TypeVar("T")


# ------------------------------------------------------------------------------------ element types

_NUMPY_CODES = ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")
_NUMPY_TYPES = {order + code: np.dtype(order + code) for order in "<>|=" for code in _NUMPY_CODES}
_TORCH_TYPES: dict[str, np.dtype[Any]] = {np.dtype(c).name: np.dtype(c) for c in _NUMPY_CODES}
# Types that numpy lacks travel as bytes; only their size matters here.
_OPAQUE_SIZES = {"bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}


# ------------------------------------------------------------------------------------------ writing


class Encoder:
    """Writes any message of this package; one per thread."""

    def __init__(self, zero_copy_threshold: int = ZERO_COPY_THRESHOLD) -> None:
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._write_unknown)
        self._threshold = zero_copy_threshold
        self._frames: list[Buffer] = []

    def encode(self, message: Any) -> list[Buffer]:
        """The MessagePack frame, then the frames it refers to in order.

        Raises:
            EncodeError: a value without a form on the wire, or an integer beyond 64 bits.
        """
        frames: list[Buffer] = [b""]
        self._frames = frames
        try:
            frames[0] = self._encoder.encode(message)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.EncodeError) as error:
            name = type(message).__name__
            raise EncodeError(f"{name} cannot be written: {error}") from error
        finally:
            self._frames = []
        return frames

    def encode_request(self, kind: RequestType, message: Any) -> list[Buffer]:
        """The frames of a message to an engine, the type's frame first."""
        return [kind.frame, *self.encode(message)]

    def _write_unknown(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self._write_ndarray(value)
        if isinstance(value, Tensor):
            return [value.dtype, list(value.shape), self._write_bytes(value.data)]
        if isinstance(value, NestedTensors):
            return value.value
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"objects of type {type(value).__name__} have no form on the wire")

    def _write_ndarray(self, array: np.ndarray) -> list[Any]:
        if array.dtype.str not in _NUMPY_TYPES:
            raise TypeError(f"arrays of {array.dtype} have no form on the wire")
        contiguous = np.ascontiguousarray(array)
        inline = array.ndim == 0
        return [array.dtype.str, list(array.shape), self._write_bytes(contiguous, inline)]

    def _write_bytes(self, data: Buffer | np.ndarray, inline: bool = False) -> Any:
        if isinstance(data, np.ndarray):
            data = np.ascontiguousarray(data).reshape(-1).view(np.uint8).data
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        if inline or size < self._threshold:
            return msgspec.msgpack.Ext(_EXT_RAW, bytes(data))
        self._frames.append(data)
        return len(self._frames) - 1


# ------------------------------------------------------------------------------------------ reading


class _ArrayReader:
    """Turns ``[dtype, shape, data]`` back into arrays, given the frames of the message."""

    def __init__(self) -> None:
        self.frames: Sequence[Any] = ()

    def read(self, kind: type, value: Any) -> Any:
        """The hook that msgspec calls for types it does not know; errors become its own."""
        if kind is np.ndarray:
            return self._ndarray(value)
        if kind is Tensor:
            return self._tensor(value)
        if kind is NestedTensors:
            return NestedTensors(self._nested(value))
        raise TypeError(f"no reader for {kind.__name__}")

    def _ndarray(self, value: Any) -> np.ndarray:
        name, shape, data = self._triple(value)
        dtype = _NUMPY_TYPES.get(name) or _TORCH_TYPES.get(name)
        if dtype is None:
            raise ValueError(f"element type {name[:32]!r} is not known to numpy")
        if prod(shape) == 0:
            return np.empty(shape, dtype)
        return np.frombuffer(data, dtype).reshape(shape)

    def _tensor(self, value: Any) -> Tensor:
        name, shape, data = self._triple(value)
        if name not in _NUMPY_TYPES:
            return Tensor(name, shape, data)
        native = _NUMPY_TYPES[name].newbyteorder("=")
        if prod(shape) and native != _NUMPY_TYPES[name]:
            swapped = np.frombuffer(data, _NUMPY_TYPES[name]).astype(native)
            data = swapped.view(np.uint8).data
        return Tensor(native.name, shape, data)

    def _nested(self, value: Any, depth: int = 0) -> Any:
        if depth > 64:
            raise ValueError("lists are nested more than 64 deep")
        if not isinstance(value, list):
            if value is None or isinstance(value, int | float):
                return value
            raise ValueError("expected a tensor, a number, null or a list of these")
        if value and isinstance(value[0], str):
            return self._tensor(value)
        return [self._nested(item, depth + 1) for item in value]

    def _triple(self, value: Any) -> tuple[str, tuple[int, ...], memoryview]:
        if not isinstance(value, list) or len(value) < 3 or not isinstance(value[0], str):
            raise ValueError("expected an array of [dtype, shape, data]")
        name, shape = value[0], _shape(value[1])
        size = _itemsize(name) * prod(shape)
        data = self._data(value[2])
        if data.nbytes != size:
            raise ValueError(
                f"shape {list(shape)} takes {size} bytes, the message has {data.nbytes}"
            )
        return name, shape, data

    def _data(self, value: Any) -> memoryview:
        if isinstance(value, memoryview):
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("array data must be extension 3 or the number of a frame")
        if not 0 < value < len(self.frames):
            last = len(self.frames) - 1
            raise ValueError(f"array data is in frame {value}, the last frame is {last}")
        return memoryview(self.frames[value]).cast("B").toreadonly()


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        raise ValueError(f"array shape must be a list of at most {MAX_DIMENSIONS} integers")
    for size in value:
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_ELEMENTS:
            raise ValueError(f"array dimensions must be integers from 0 to {MAX_ELEMENTS}")
    if prod(size or 1 for size in value) > MAX_ELEMENTS:
        raise ValueError(f"arrays may have at most {MAX_ELEMENTS} elements")
    return tuple(value)


def _itemsize(name: str) -> int:
    dtype = _NUMPY_TYPES.get(name) or _TORCH_TYPES.get(name)
    size = dtype.itemsize if dtype is not None else _OPAQUE_SIZES.get(name)
    if size is None:
        raise ValueError(f"element type {name[:32]!r} is not known")
    return size


def _read_extension(code: int, data: memoryview) -> memoryview:
    if code == _EXT_RAW:
        return data
    if code in (_EXT_PICKLE, _EXT_CLOUDPICKLE):
        raise DecodeError(f"extension {code} is a pickle, which is never loaded")
    raise DecodeError(f"extension {code} is not known")


# Everything that msgspec, its hooks and the types' own checks raise on bad input.
_READ_ERRORS = (
    msgspec.MsgspecError,
    DecodeError,
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
    MemoryError,
)


class Decoder(Generic[T]):
    """Reads messages of one type; one per thread."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._arrays = _ArrayReader()
        self._decoder = msgspec.msgpack.Decoder(
            kind, dec_hook=self._arrays.read, ext_hook=_read_extension
        )

    def decode(self, frames: Sequence[Any]) -> T:
        """Read the message whose MessagePack frame is ``frames[0]``.

        Arrays of the result are read-only views into the frames.

        Raises:
            DecodeError: whatever is wrong with the frames.
        """
        _check_sizes(frames)
        self._arrays.frames = frames
        try:
            return self._decoder.decode(frames[0])
        except _READ_ERRORS as error:
            raise DecodeError(_explain(error, self._kind)) from error
        finally:
            self._arrays.frames = ()


def _check_sizes(frames: Sequence[Any]) -> None:
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise DecodeError(f"a message has 1 to {MAX_FRAMES} frames, got {len(frames)}")
    size = memoryview(frames[0]).nbytes
    if size > MAX_PAYLOAD_BYTES:
        raise DecodeError(f"a message may have {MAX_PAYLOAD_BYTES} bytes, got {size}")


_PLACE = re.compile(r"\$\[(\d+)\]")


def _explain(error: BaseException, kind: Any) -> str:
    """The error's text with slots of an array message called by their names."""
    if isinstance(error, RecursionError):
        return "the message is nested too deeply"
    if isinstance(error, MemoryError):
        return "the message needs more memory than there is"
    fields = getattr(kind, "__struct_fields__", ())

    def name(match: re.Match[str]) -> str:
        index = int(match[1])
        return fields[index] if index < len(fields) else match[0]

    return _PLACE.sub(name, str(error))


# ----------------------------------------------------------------------- messages to an engine


class RequestDecoder:
    """An engine's reader: frames after the identity to a type and its message."""

    def __init__(self) -> None:
        self._decoders: dict[int, Decoder[Any]] = {
            RequestType.ADD: Decoder(EngineCoreRequest),
            RequestType.ABORT: Decoder(list[str]),
            RequestType.START_DP_WAVE: Decoder(StartWave),
            RequestType.UTILITY: Decoder(UtilityRequest),
        }

    def decode(self, frames: Sequence[Any]) -> tuple[RequestType, Any]:
        """Returns the type with an ``EngineCoreRequest``, a list of ids, a ``StartWave`` or a
        ``UtilityRequest``.

        Raises:
            DecodeError: whatever is wrong with the frames.
        """
        kind = request_type(frames)
        return kind, self._decoders[kind].decode(frames[1:])


def request_type(frames: Sequence[Any]) -> RequestType:
    """The type that the first of ``frames`` states."""
    if len(frames) < 2:
        raise DecodeError(f"a request has a type and a payload, got {len(frames)} frames")
    head = bytes(memoryview(frames[0])[:2])
    if len(head) != 1 or head[0] not in RequestType.__members__.values():
        raise DecodeError(f"request type {head.hex() or 'of no bytes'} is not known")
    return RequestType(head[0])


def recover_request_id(payload: Any) -> str | None:
    """The id in slot 0 of a message whose rest cannot be read, if there is one."""
    view = memoryview(payload)
    try:
        text = _first_string(view, _array_start(view))
        return str(text, "utf-8")
    except (IndexError, ValueError):
        return None


def recover_call(payload: Any) -> tuple[int, int] | None:
    """``client_index`` and ``call_id`` of a utility request that cannot be read otherwise."""
    try:
        index, call_id = Decoder(list[Any]).decode([payload])[:2]
    except (DecodeError, ValueError):
        return None
    return (index, call_id) if type(index) is int and type(call_id) is int else None


def _array_start(view: memoryview) -> int:
    """Offset of the first element of a MessagePack array that is not empty."""
    head = view[0]
    if 0x91 <= head <= 0x9F:
        return 1
    if head in (0xDC, 0xDD):
        width = 2 if head == 0xDC else 4
        if int.from_bytes(view[1 : 1 + width]):
            return 1 + width
    raise ValueError("no array, or an empty one")


def _first_string(view: memoryview, start: int) -> memoryview:
    """The bytes of the MessagePack string at ``start``."""
    head = view[start]
    if 0xA0 <= head <= 0xBF:
        width, size = 0, head & 0x1F
    elif 0xD9 <= head <= 0xDB:
        width = 1 << (head - 0xD9)
        size = int.from_bytes(view[start + 1 : start + 1 + width])
    else:
        raise ValueError("no string")
    begin = start + 1 + width
    if begin + size > len(view):
        raise ValueError("truncated")
    return view[begin : begin + size]


# --------------------------------------------------------------------- messages from an engine


def is_death(frames: Sequence[Any]) -> bool:
    """Whether an engine says with these frames that it ends; ask before decoding."""
    return len(frames) == 1 and bytes(memoryview(frames[0])[:17]) == ENGINE_CORE_DEAD


class OutputsDecoder:
    """A frontend's reader: what cannot be read costs only the requests that it concerns."""

    def __init__(self) -> None:
        self._whole = Decoder(EngineCoreOutputs)
        self._loose = Decoder(list[Any])
        self._arrays = _ArrayReader()

    def decode(self, frames: Sequence[Any]) -> EngineCoreOutputs:
        """Read a message of an engine.

        A request whose part cannot be read gets a failed output in its place; other parts that
        cannot be read are left at their defaults.

        Raises:
            DecodeError: the frames are no MessagePack array at all.
        """
        try:
            return self._whole.decode(frames)
        except DecodeError:
            return self._salvage(frames)

    def _salvage(self, frames: Sequence[Any]) -> EngineCoreOutputs:
        slots = self._loose.decode(frames)
        self._arrays.frames = frames
        parts = dict(zip(EngineCoreOutputs.__struct_fields__, slots, strict=False))
        outputs = parts.pop("outputs", None)
        utility = parts.pop("utility_output", None)
        try:
            message = EngineCoreOutputs(
                **{name: self._part(name, value) for name, value in parts.items()}
            )
            if isinstance(outputs, list):
                found = (self._output(item) for item in outputs)
                message.outputs = [output for output in found if output is not None]
            message.utility_output = self._utility(utility)
        finally:
            self._arrays.frames = ()
        return message

    def _part(self, name: str, value: Any) -> Any:
        kind, default = _PARTS[name]
        try:
            return self._convert(value, kind)
        except DecodeError:
            return default

    def _output(self, item: Any) -> EngineCoreOutput | None:
        try:
            return self._convert(item, EngineCoreOutput)
        except DecodeError as error:
            if not isinstance(item, list) or not item or not isinstance(item[0], str):
                return None
            message = f"the engine's answer could not be read: {error}"
            return EngineCoreOutput.failure(item[0], message, INTERNAL_ERROR)

    def _utility(self, item: Any) -> UtilityOutput | None:
        if item is None:
            return None
        try:
            return self._convert(item, UtilityOutput)
        except DecodeError as error:
            if not isinstance(item, list) or not item or type(item[0]) is not int:
                return None
            return UtilityOutput(item[0], f"the engine's answer could not be read: {error}")

    def _convert(self, value: Any, kind: Any) -> Any:
        try:
            return msgspec.convert(value, kind, dec_hook=self._arrays.read)
        except _READ_ERRORS as error:
            raise DecodeError(_explain(error, kind)) from error


_PARTS: dict[str, tuple[Any, Any]] = {
    "engine_index": (int, 0),
    "scheduler_stats": (SchedulerStats | None, None),
    "timestamp": (float, 0.0),
    "finished_requests": (list[str] | None, None),
    "wave_complete": (int | None, None),
    "start_wave": (int | None, None),
    "weight_version": (str | None, None),
}
