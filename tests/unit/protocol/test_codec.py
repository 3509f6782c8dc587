# SPDX-License-Identifier: Apache-2.0
"""What the golden vectors do not show of the codec: the threshold, views, types, refusals."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from vllm.protocol.codec import MAX_FRAMES, Decoder, Encoder
from vllm.protocol.errors import DecodeError, EncodeError
from vllm.protocol.messages import NestedTensors, Tensor

DTYPES = st.sampled_from(["<i4", "<i8", "<f4", "<f8", "<f2", "|b1", "|u1", ">i4"])
ARRAYS = stnp.arrays(DTYPES, stnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=12))


class Holder(msgspec.Struct, array_like=True):
    array: np.ndarray | None = None
    tensor: Tensor | None = None
    nested: NestedTensors | None = None


def round_trip(holder: Holder) -> Holder:
    return Decoder(Holder).decode(Encoder().encode(holder))


@given(ARRAYS)
def test_arrays_come_back(array: np.ndarray) -> None:
    read = round_trip(Holder(array=array)).array
    assert read is not None
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@given(ARRAYS.filter(lambda array: array.dtype.isnative))
def test_tensors_come_back(array: np.ndarray) -> None:
    read = round_trip(Holder(tensor=Tensor.of(array))).tensor
    assert read is not None
    np.testing.assert_array_equal(read.numpy(), array)


@pytest.mark.parametrize(("size", "frames"), [(63, 1), (64, 2)])
def test_threshold_is_256_bytes(size: int, frames: int) -> None:
    array = np.zeros(size, np.float32)
    assert len(Encoder().encode(Holder(array=array))) == frames
    assert len(Encoder().encode(Holder(tensor=Tensor.of(array)))) == frames


def test_zero_dimensional_arrays_are_always_inline() -> None:
    assert len(Encoder(zero_copy_threshold=0).encode(Holder(array=np.array(1.0)))) == 1


def test_large_arrays_are_not_copied() -> None:
    array = np.arange(1000, dtype=np.int32)
    _, frame = Encoder().encode(Holder(array=array))
    assert np.shares_memory(np.frombuffer(frame, np.int32), array)
    read = Decoder(Holder).decode(Encoder().encode(Holder(array=array))).array
    assert read is not None
    assert np.shares_memory(read, array)
    assert not read.flags.writeable


def test_views_that_are_not_contiguous() -> None:
    array = np.arange(600, dtype=np.int32).reshape(20, 30)[::2, ::3]
    for holder in (Holder(array=array), Holder(tensor=Tensor.of(array))):
        read = round_trip(holder)
        found = read.array if read.array is not None else read.tensor.numpy()  # type: ignore[union-attr]
        np.testing.assert_array_equal(found, array)


def test_big_endian_tensor_becomes_native() -> None:
    payload = msgspec.msgpack.encode(
        [None, [">i4", [2], msgspec.msgpack.Ext(3, b"\0\0\0\1\0\0\0\2")]]
    )
    tensor = Decoder(Holder).decode([payload]).tensor
    assert tensor is not None
    assert tensor.dtype == "int32"
    assert tensor.numpy().tolist() == [1, 2]


def test_type_that_numpy_lacks_travels_as_bytes() -> None:
    tensor = round_trip(Holder(tensor=Tensor("bfloat16", (2,), b"\x80\x3f\x00\x40"))).tensor
    assert tensor is not None
    assert (tensor.dtype, tensor.shape, bytes(tensor.data)) == (
        "bfloat16",
        (2,),
        b"\x80\x3f\x00\x40",
    )
    with pytest.raises(TypeError):
        tensor.numpy()


def test_nested_tensors() -> None:
    value = [Tensor.of(np.ones(3)), [1, 2.5, None], Tensor.of(np.zeros(100))]
    read = round_trip(Holder(nested=NestedTensors(value))).nested
    assert read is not None
    assert read.value[1] == [1, 2.5, None]
    assert read.value[2].numpy().shape == (100,)


@pytest.mark.parametrize(
    "value", [object(), 2**64, {"x": object()}, np.array([object()]), np.array(["x"]), 1j, "\ud800"]
)
def test_values_without_a_form_are_refused(value: Any) -> None:
    encoder = Encoder()
    with pytest.raises(EncodeError, match="cannot be written"):
        encoder.encode([value])
    assert encoder.encode([1]) == [b"\x91\x01"]  # and the encoder stays usable


def test_recursive_value_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(EncodeError):
        Encoder().encode(value)


def test_numpy_numbers_are_numbers() -> None:
    assert Encoder().encode([np.int64(5), np.float32(0.5)])[0] == msgspec.msgpack.encode([5, 0.5])


def test_number_of_frames_is_bounded() -> None:
    for frames in ([], [b"\x90"] * (MAX_FRAMES + 1)):
        with pytest.raises(DecodeError, match="frames"):
            Decoder(Holder).decode(frames)
