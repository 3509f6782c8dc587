# SPDX-License-Identifier: Apache-2.0
"""Writes ``tests/wire/golden/*.json``: ``python tests/wire/make_golden.py`` (see README.md there).

Independent of the package on purpose: bytes come from the small packer below and from literals,
values are written out by hand, so that neither half's codec checks itself.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden"


# ------------------------------------------------------------------------------------------- packer


@dataclass
class F32:
    value: float


@dataclass
class Ext:
    code: int
    data: bytes


@dataclass
class Wide:
    """A list or map with a 16-bit length even where a shorter header would do."""

    items: list[Any] | dict[str, Any]


@dataclass
class Raw:
    data: bytes


def pack(value: Any) -> bytes:
    packer = PACKERS.get(type(value))
    if packer is None:
        raise TypeError(type(value))
    return packer(value)


def pack_str(value: str) -> bytes:
    data = value.encode()
    head = bytes([0xA0 | len(data)]) if len(data) < 32 else head_of(len(data), 0xD9, 0xDA, 0xDB)
    return head + data


def pack_list(value: list[Any]) -> bytes:
    head = bytes([0x90 | len(value)]) if len(value) < 16 else head_of(len(value), None, 0xDC, 0xDD)
    return head + b"".join(map(pack, value))


def pack_dict(value: dict[Any, Any]) -> bytes:
    head = bytes([0x80 | len(value)]) if len(value) < 16 else head_of(len(value), None, 0xDE, 0xDF)
    return head + pack_items(value)


def pack_wide(value: Wide) -> bytes:
    size = struct.pack(">H", len(value.items))
    if isinstance(value.items, dict):
        return b"\xde" + size + pack_items(value.items)
    return b"\xdc" + size + b"".join(map(pack, value.items))


def pack_ext(value: Ext) -> bytes:
    size = len(value.data)
    fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}.get(size)
    head = bytes([fixed]) if fixed is not None else head_of(size, 0xC7, 0xC8, 0xC9)
    return head + bytes([value.code]) + value.data


def pack_items(items: dict[Any, Any]) -> bytes:
    return b"".join(pack(key) + pack(item) for key, item in items.items())


def pack_int(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack("b" if value < 0 else "B", value)
    if value < 0:
        for head, code, bits in ((0xD0, ">b", 7), (0xD1, ">h", 15), (0xD2, ">i", 31)):
            if value >= -(1 << bits):
                return bytes([head]) + struct.pack(code, value)
        return b"\xd3" + struct.pack(">q", value)
    for head, code, bits in ((0xCC, ">B", 8), (0xCD, ">H", 16), (0xCE, ">I", 32)):
        if value < 1 << bits:
            return bytes([head]) + struct.pack(code, value)
    return b"\xcf" + struct.pack(">Q", value)


def head_of(size: int, one: int | None, two: int, four: int) -> bytes:
    """A header and its size in one, two or four bytes; ``one`` does not exist for all kinds."""
    if one is not None and size < 256:
        return bytes([one, size])
    if size < 65536:
        return bytes([two]) + struct.pack(">H", size)
    return bytes([four]) + struct.pack(">I", size)


PACKERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"\xc0",
    bool: lambda value: b"\xc3" if value else b"\xc2",
    int: pack_int,
    float: lambda value: b"\xcb" + struct.pack(">d", value),
    str: pack_str,
    bytes: lambda value: head_of(len(value), 0xC4, 0xC5, 0xC6) + value,
    list: pack_list,
    dict: pack_dict,
    F32: lambda value: b"\xca" + struct.pack(">f", value.value),
    Ext: pack_ext,
    Wide: pack_wide,
    Raw: lambda value: value.data,
}


# -------------------------------------------------------------------------------------------- cases


def case(name: str, kind: str, frames: list[Any], value: Any = None, **more: Any) -> dict[str, Any]:
    """One vector; a frame is bytes, or a value to pack."""
    packed = [frame if isinstance(frame, bytes) else pack(frame) for frame in frames]
    entry = {"name": name, "kind": kind, "frames": [frame.hex() for frame in packed]}
    if value is not None:
        entry["value"] = value
    return entry | more


def array(dtype: str, shape: list[int], data: bytes) -> dict[str, Any]:
    return {"$array": {"dtype": dtype, "shape": shape, "data": data.hex()}}


def i4(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def i8(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def f4(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


ADD, ABORT, WAVE, UTILITY = b"\x00", b"\x01", b"\x02", b"\x03"
# What a Python frontend always sends besides the parameters that differ from their defaults.
NORMAL = {"stop": [], "stop_token_ids": [], "bad_words": [], "skip_reading_prefix_cache": False}

SECTION_9_ADD = bytes.fromhex(
    "dc0016a3722d31930102cd012cc0de0007ab74656d7065726174757265cb0000000000000000"
    "a473746f7090ae73746f705f746f6b656e5f69647390aa6d61785f746f6b656e7304"
    "ab6f75747075745f6b696e6401a96261645f776f72647390"
    "b9736b69705f72656164696e675f7072656669785f6361636865c2"
    "c0cb3ff8000000000000c0c0c0c0c0000000c0c2a172c0c0c2c0c0"
)
SECTION_9_FINAL = bytes.fromhex(
    "990091dc0013a3722d319102c0c0c000c0c0c0c0c0c0c000c0c0c0c0c0"
    "c0cb4025000000000000c091a3722d31c0c0a764656661756c74"
)


def add_slots(**named: Any) -> list[Any]:
    """The 22 slots of an ADD."""
    slots = {
        "request_id": "r-1",
        "prompt_token_ids": [1, 2, 3],
        "mm_features": None,
        "sampling_params": Wide({**NORMAL}),
        "pooling_params": None,
        "arrival_time": 1.5,
        "lora_request": None,
        "cache_salt": None,
        "data_parallel_rank": None,
        "prompt_embeds": None,
        "prompt_is_token_ids": None,
        "client_index": 0,
        "current_wave": 0,
        "priority": 0,
        "trace_headers": None,
        "resumable": False,
        "external_req_id": None,
        "reasoning_ended": None,
        "reasoning_parser_kwargs": None,
        "abort_immediately": False,
        "session_id": None,
        "kv_hints": None,
    }
    assert not set(named) - set(slots)
    return list((slots | named).values())


def add_value(**named: Any) -> dict[str, Any]:
    """What such an ADD means: the required slots, and those that are not at their default."""
    required = {
        "request_id": "r-1",
        "prompt_token_ids": [1, 2, 3],
        "mm_features": None,
        "sampling_params": NORMAL,
        "pooling_params": None,
        "arrival_time": 1.5,
        "lora_request": None,
        "cache_salt": None,
        "data_parallel_rank": None,
    }
    return required | named


# In the order of the struct, which is the order of the encoded keys.
EVERY_PARAMETER: dict[str, Any] = {
    "n": 2,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "repetition_penalty": 1.25,
    "temperature": 0.75,
    "watermarking": True,
    "top_p": 0.875,
    "top_k": 40,
    "min_p": 0.0625,
    "seed": 2**63 + 5,
    "stop": ["\n\n", "é"],
    "stop_token_ids": [7],
    "ignore_eos": True,
    "max_tokens": 100,
    "min_tokens": 3,
    "logprobs": 5,
    "prompt_logprobs": -1,
    "prompt_logprob_token_ids": array("<i8", [2], i8(3, 4)),
    "prompt_logprob_start": 1,
    "logprob_token_ids": [9, 10],
    "flat_logprobs": True,
    "detokenize": False,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "include_stop_str_in_output": True,
    "output_kind": 1,
    "stream_interval": 4,
    "skip_clone": True,
    "output_text_buffer_length": 3,
    "_eos_token_id": 2,
    "_all_stop_token_ids": [7],
    "_watermarking_skipped": True,
    "structured_outputs": {"json": {"type": "object"}, "_backend": "xgrammar"},
    "logit_bias": {"$map": [[5, 1.5], [6, -100.0]]},
    "allowed_token_ids": [1, 2, 3],
    "extra_args": {"a": -(2**63), "b": [1.5, None, "x"], "c": 2**64 - 1},
    "bad_words": ["no"],
    "_bad_words_token_ids": [[11], [12, 13]],
    "skip_reading_prefix_cache": True,
    "thinking_token_budget": 128,
    "repetition_detection": {"max_pattern_size": 8, "min_pattern_size": 2, "min_count": 3},
    "routed_experts_prompt_start": 1,
    "trace_decode_token_ids": [21],
}
STRUCTURED = {
    "json": None,
    "regex": None,
    "choice": None,
    "grammar": None,
    "json_object": None,
    "disable_any_whitespace": False,
    "disable_additional_properties": False,
    "whitespace_pattern": None,
    "structural_tag": None,
    "_backend": None,
    "_backend_was_auto": False,
}


def every_parameter_raw() -> dict[str, Any]:
    raw = dict(EVERY_PARAMETER)
    raw["prompt_logprob_token_ids"] = ["<i8", [2], Ext(3, i8(3, 4))]
    raw["logit_bias"] = {5: 1.5, 6: -100.0}
    raw["structured_outputs"] = STRUCTURED | {"json": {"type": "object"}, "_backend": "xgrammar"}
    return raw


def multimodal() -> tuple[dict[str, Any], dict[str, Any]]:
    """One feature: as packed and as meant; ``pixels`` takes a frame of its own."""
    small = bytes(range(12))
    raw = {
        "data": {
            "pixel_values": {
                "data": ["bfloat16", [2, 3], Ext(3, small)],
                "field": ["batched", {"keep_on_cpu": False}],
            },
            "grid": {
                "data": ["int64", [3], Ext(3, i8(1, 2, 3))],
                "field": ["flat", {"keep_on_cpu": False, "slices": [[0, 3, None]], "dim": 0}],
            },
            "pixels": {
                "data": [["float32", [64], 1], None, 2],
                "field": ["batched", {"keep_on_cpu": True}],
            },
            "x": {"data": 1.5, "field": ["shared", {"keep_on_cpu": False, "batch_size": 1}]},
        },
        "modality": "image",
        "identifier": "abc",
        "mm_position": {
            "offset": 2,
            "length": 4,
            "is_embed": ["bool", [4], Ext(3, b"\1\0\1\1")],
        },
        "mm_hash": "abc",
    }
    data = {key: dict(entry) for key, entry in raw["data"].items()}
    data["pixel_values"]["data"] = array("bfloat16", [2, 3], small)
    data["grid"]["data"] = array("int64", [3], i8(1, 2, 3))
    data["pixels"]["data"] = [array("float32", [64], f4(*range(64))), None, 2]
    position = {"offset": 2, "length": 4, "is_embed": array("bool", [4], b"\1\0\1\1")}
    return raw, raw | {"data": data, "mm_position": position}


def request_cases() -> list[dict[str, Any]]:
    feature, feature_value = multimodal()
    every = {
        "cache_salt": "salt",
        "data_parallel_rank": 1,
        "client_index": 3,
        "current_wave": 7,
        "priority": -2,
        "trace_headers": {"traceparent": "00-1"},
        "resumable": True,
        "external_req_id": "r",
        "reasoning_ended": False,
        "reasoning_parser_kwargs": {"chat_template_kwargs": {"enable_thinking": False}},
        "abort_immediately": True,
        "session_id": "s",
        "kv_hints": {
            "protocol_version": 1,
            "message_id": "m",
            "actions": [
                {"action_id": "a", "action_type": "t", "action_version": 1, "payload": {"k": 1}}
            ],
        },
    }
    upstream = {  # as captured from a released frontend: float32, defaults not left out
        "temperature": F32(0.75),
        "watermarking": True,
        "top_p": F32(0.5),
        "top_k": 0,
        "max_tokens": 64,
        "min_tokens": 0,
        "min_p": F32(0.0),
        "frequency_penalty": F32(0.0),
        "presence_penalty": F32(0.0),
        "repetition_penalty": F32(1.0),
        "stop_token_ids": [],
        "_eos_token_id": 2,
        "_all_stop_token_ids": [2],
        "routed_experts_prompt_start": 0,
    }
    pooling = [True, 64, None, None, "embed", False, None, None, None, 2, None]
    return [
        case(
            "section 9.1",
            "request",
            [ADD, SECTION_9_ADD],
            {
                "type": "ADD",
                "message": add_value(
                    prompt_token_ids=[1, 2, 300],
                    sampling_params=NORMAL
                    | {"temperature": 0.0, "max_tokens": 4, "output_kind": 1},
                    external_req_id="r",
                ),
            },
            encode=True,
        ),
        case(
            "every sampling parameter",
            "request",
            [ADD, add_slots(sampling_params=Wide(every_parameter_raw()))],
            {"type": "ADD", "message": add_value(sampling_params=EVERY_PARAMETER)},
            encode=True,
        ),
        case(
            "every other slot",
            "request",
            [
                ADD,
                add_slots(
                    lora_request=["a", 1, "/p", "base", True, True],
                    prompt_embeds=["float32", [2, 2], Ext(3, f4(1, 2, 3, 4))],
                    prompt_is_token_ids=[True, False, True],
                    **every,
                ),
            ],
            {
                "type": "ADD",
                "message": add_value(
                    lora_request={
                        "lora_name": "a",
                        "lora_int_id": 1,
                        "lora_path": "/p",
                        "base_model_name": "base",
                        "load_inplace": True,
                        "is_3d_lora_weight": True,
                    },
                    prompt_embeds=array("float32", [2, 2], f4(1, 2, 3, 4)),
                    prompt_is_token_ids=[True, False, True],
                    **every,
                ),
            },
            encode=True,
        ),
        case(
            "parameters as a released frontend sends them",
            "request",
            [ADD, add_slots(sampling_params=upstream)],
            {
                "type": "ADD",
                "message": add_value(
                    sampling_params=NORMAL
                    | {
                        "temperature": 0.75,
                        "watermarking": True,
                        "top_p": 0.5,
                        "max_tokens": 64,
                        "_eos_token_id": 2,
                        "_all_stop_token_ids": [2],
                    }
                ),
            },
        ),
        case(
            "pooling",
            "request",
            [ADD, add_slots(sampling_params=None, pooling_params=pooling)],
            {
                "type": "ADD",
                "message": add_value(
                    sampling_params=None,
                    pooling_params={"use_activation": True, "dimensions": 64, "task": "embed"},
                ),
            },
            encode=True,
        ),
        case(
            "multimodal, one tensor in a frame of its own",
            "request",
            [ADD, add_slots(mm_features=[feature]), f4(*range(64))],
            {"type": "ADD", "message": add_value(mm_features=[feature_value])},
            encode=True,
        ),
        case(
            "multimodal, held by the engine already",
            "request",
            [
                ADD,
                add_slots(
                    mm_features=[
                        {
                            "data": None,
                            "modality": "audio",
                            "identifier": "i",
                            "mm_position": {"offset": 0, "length": 1, "is_embed": None},
                            "mm_hash": "h",
                        }
                    ]
                ),
            ],
            {
                "type": "ADD",
                "message": add_value(
                    mm_features=[
                        {
                            "data": None,
                            "modality": "audio",
                            "identifier": "i",
                            "mm_position": {"offset": 0, "length": 1},
                            "mm_hash": "h",
                        }
                    ]
                ),
            },
            encode=True,
        ),
        case(
            "prompt embeddings of exactly 256 bytes, out of band",
            "request",
            [
                ADD,
                add_slots(prompt_token_ids=None, prompt_embeds=["bfloat16", [2, 64], 1]),
                bytes(range(256)),
            ],
            {
                "type": "ADD",
                "message": add_value(
                    prompt_token_ids=None,
                    prompt_embeds=array("bfloat16", [2, 64], bytes(range(256))),
                ),
            },
            encode=True,
        ),
        case(
            "the shortest request",
            "request",
            [ADD, add_slots()[:9]],
            {"type": "ADD", "message": add_value()},
        ),
        case(
            "slots of the future",
            "request",
            [ADD, [*add_slots(), {"new": [1]}, 7]],
            {"type": "ADD", "message": add_value()},
        ),
        case(
            "unknown keys, and numbers of the other kind",
            "request",
            [
                ADD,
                add_slots(
                    arrival_time=2,
                    sampling_params={"temperature": 1, "of_the_future": {"x": []}, "top_p": 1},
                    lora_request=["a", 1, "/p", None, False, False, "more"],
                ),
            ],
            {
                "type": "ADD",
                "message": add_value(
                    arrival_time=2.0,
                    lora_request={"lora_name": "a", "lora_int_id": 1, "lora_path": "/p"},
                ),
            },
        ),
        case(
            "long headers everywhere",
            "request",
            [
                ADD,
                Raw(
                    b"\xdd\x00\x00\x00\x16\xdb\x00\x00\x00\x03r-1\xdd\x00\x00\x00\x03"
                    b"\xd3\x00\x00\x00\x00\x00\x00\x00\x01\xce\x00\x00\x00\x02\x03"
                    + b"".join(pack(slot) for slot in add_slots()[2:])
                ),
            ],
            {"type": "ADD", "message": add_value()},
        ),
        case(
            "greedy resets the other filters",
            "request",
            [
                ADD,
                add_slots(
                    sampling_params={"temperature": 0.0, "top_p": 0.5, "top_k": 3, "min_p": 0.5}
                ),
            ],
            {
                "type": "ADD",
                "message": add_value(sampling_params=NORMAL | {"temperature": 0.0}),
            },
        ),
        case(
            "section 9.5, abort",
            "request",
            [ABORT, bytes.fromhex("92a3722d31a3722d32")],
            {"type": "ABORT", "message": ["r-1", "r-2"]},
            encode=True,
        ),
        case(
            "abort of nothing",
            "request",
            [ABORT, []],
            {"type": "ABORT", "message": []},
            encode=True,
        ),
        case(
            "section 6.3, wave",
            "request",
            [WAVE, bytes.fromhex("920401")],
            {"type": "START_DP_WAVE", "message": {"wave": 4, "exclude_engine_index": 1}},
            encode=True,
        ),
        case(
            "wave for all",
            "request",
            [WAVE, [5, None]],
            {"type": "START_DP_WAVE", "message": {"wave": 5}},
            encode=True,
        ),
        case(
            "section 9.5, utility",
            "request",
            [UTILITY, bytes.fromhex("94002aab69735f736c656570696e6790")],
            {
                "type": "UTILITY",
                "message": {"client_index": 0, "call_id": 42, "method": "is_sleeping"},
            },
            encode=True,
        ),
        case(
            "utility with arguments and a 64-bit id",
            "request",
            [
                UTILITY,
                [1, 2**64 - 1, "collective_rpc", ["m", None, [1], {"k": True, "f": -0.5}]],
            ],
            {
                "type": "UTILITY",
                "message": {
                    "client_index": 1,
                    "call_id": 2**64 - 1,
                    "method": "collective_rpc",
                    "args": ["m", None, [1], {"k": True, "f": -0.5}],
                },
            },
            encode=True,
        ),
    ]


# ------------------------------------------------------------------------------------------- output


def output_slots(request_id: str = "r-1", tokens: list[int] | None = None, **at: Any) -> list[Any]:
    """The 19 slots of an output; ``at`` sets slots by number, as in ``s5=0``."""
    slots: list[Any] = [request_id, [5] if tokens is None else tokens, *[None] * 17]
    slots[13] = 0
    for name, value in at.items():
        slots[int(name[1:])] = value
    return slots


def outputs(items: list[Any], **at: Any) -> list[Any]:
    """The 9 slots of a message."""
    slots: list[Any] = [0, items, None, 10.5, None, None, None, None, None]
    for name, value in at.items():
        slots[int(name[1:])] = value
    return slots


def one(request_id: str = "r-1", tokens: list[int] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "new_token_ids": [5] if tokens is None else tokens,
    } | more


STATS = {
    "num_running_reqs": 2,
    "num_waiting_reqs": 1,
    "num_skipped_waiting_reqs": 3,
    "num_kv_fetch_reqs_by_stage": {"load": 1},
    "step_counter": 9,
    "current_wave": 4,
    "kv_cache_usage": 0.25,
    "iteration_details": {
        "iteration_index": 1,
        "num_ctx_requests": 2,
        "num_ctx_tokens": 3,
        "num_generation_requests": 4,
        "num_generation_tokens": 5,
        "elapsed_ms": 6.5,
        "num_encoder_inputs": 7,
        "num_encoder_output_tokens": 8,
        "is_dummy": True,
    },
    "prefix_cache_stats": {
        "reset": True,
        "requests": 1,
        "queries": 2,
        "hits": 3,
        "preempted_requests": 4,
        "preempted_queries": 5,
        "preempted_hits": 6,
        "hits_by_source": {"device": 3},
    },
    "connector_prefix_cache_stats": {
        "reset": False,
        "requests": 1,
        "queries": 0,
        "hits": 0,
        "preempted_requests": 0,
        "preempted_queries": 0,
        "preempted_hits": 0,
        "hits_by_source": {},
    },
    "kv_cache_eviction_events": [
        {"lifetime_seconds": 1.5, "idle_seconds": 0.5, "reuse_gaps_seconds": [0.25]}
    ],
    "spec_decoding_stats": {
        "num_spec_tokens": 2,
        "num_drafts": 1,
        "num_draft_tokens": 2,
        "num_accepted_tokens": 1,
        "num_accepted_tokens_per_pos": [1, 0],
        "num_draft_tokens_per_pos": [1, 1],
    },
    "kv_connector_stats": {"c": 1},
    "ec_connector_stats": {"e": 1},
    "waiting_lora_adapters": {},
    "running_lora_adapters": {},
    "cudagraph_stats": {
        "num_unpadded_tokens": 3,
        "num_padded_tokens": 4,
        "num_paddings": 1,
        "runtime_mode": "FULL",
    },
    "perf_stats": {
        "num_flops_per_gpu": 1,
        "num_read_bytes_per_gpu": 2,
        "num_write_bytes_per_gpu": 3,
        "debug_stats": None,
    },
}
PREFILL = {
    "num_prompt_tokens": 3,
    "num_computed_tokens": 3,
    "num_cached_tokens": 0,
    "num_local_cached_tokens": 0,
    "num_external_cached_tokens": 0,
    "num_cache_creation_tokens": 0,
}


def meaning_of_stats() -> dict[str, Any]:
    value = dict(STATS)
    value["connector_prefix_cache_stats"] = {"requests": 1}
    del value["waiting_lora_adapters"], value["running_lora_adapters"]
    return value


def output_cases() -> list[dict[str, Any]]:
    logprobs = [
        Raw(bytes.fromhex("93a33c69349201 03c70c03050000000900000001000000")),
        ["<f4", [1, 3], Ext(3, f4(-0.1, -1.0, -2.0))],
        Raw(bytes.fromhex("93a33c69349101d60301000000")),
        None,
    ]
    logprobs_value = {
        "token_ids": array("<i4", [1, 3], i4(5, 9, 1)),
        "logprobs": array("<f4", [1, 3], f4(-0.1, -1.0, -2.0)),
        "sampled_token_ranks": array("<i4", [1], i4(1)),
    }
    ids, values, ranks = i4(*range(120)), f4(*(-i / 8 for i in range(120))), i4(*range(1, 41))
    nan_row = struct.pack("<I", 0x7FC00000) + f4(-1.0)
    every = [
        "r-1",
        [5, 6],
        None,
        None,
        ["float16", [2], Ext(3, b"\x00\x3c\x00\x40")],
        4,
        "stop",
        [{"type": 3, "timestamp": 1.5}],
        {"kv": [1]},
        {"ec": 1},
        {"traceparent": "x"},
        dict(PREFILL),
        ["|u1", [2, 2], Ext(3, b"\1\2\3\4")],
        2,
        ["h"],
        [
            ["<i4", [3], Ext(3, i4(7, 8, 9))],
            ["<i4", [3], Ext(3, i4(0, 1, 3))],
            None,
        ],
        {
            "num_spec_tokens": 2,
            "histogram": [1, 2],
            "num_draft_tokens": 4,
            "per_step_accepted": [1],
            "per_step_drafted": [2],
        },
        ["float32", [1, 2], Ext(3, f4(-1, -2))],
        {"code": "engine_paused", "message": "later", "retryable": True},
    ]
    every_value = one(
        tokens=[5, 6],
        pooling_output=array("float16", [2], b"\x00\x3c\x00\x40"),
        finish_reason=4,
        stop_reason="stop",
        events=[{"type": 3, "timestamp": 1.5}],
        kv_transfer_params={"kv": [1]},
        ec_transfer_params={"ec": 1},
        trace_headers={"traceparent": "x"},
        prefill_stats={"num_prompt_tokens": 3, "num_computed_tokens": 3},
        routed_experts=array("|u1", [2, 2], b"\1\2\3\4"),
        num_nans_in_logits=2,
        mm_cache_miss_hashes=["h"],
        new_sampling_mask={
            "token_ids": array("<i4", [3], i4(7, 8, 9)),
            "offsets": array("<i4", [3], i4(0, 1, 3)),
        },
        spec_decode_metrics={
            "num_spec_tokens": 2,
            "histogram": [1, 2],
            "num_draft_tokens": 4,
            "per_step_accepted": [1],
            "per_step_drafted": [2],
        },
        prompt_token_id_logprobs=array("float32", [1, 2], f4(-1, -2)),
        error={"code": "engine_paused", "message": "later", "retryable": True},
    )
    return [
        case(
            "section 9.2, a token with logprobs, events and prefill statistics",
            "outputs",
            [
                outputs(
                    [
                        output_slots(
                            s2=logprobs,
                            s7=[{"type": 1, "timestamp": 1.0}, {"type": 2, "timestamp": 2.0}],
                            s11=PREFILL,
                        )
                    ],
                    s3=10.25,
                )
            ],
            {
                "outputs": [
                    one(
                        new_logprobs=logprobs_value,
                        events=[{"type": 1, "timestamp": 1.0}, {"type": 2, "timestamp": 2.0}],
                        prefill_stats={"num_prompt_tokens": 3, "num_computed_tokens": 3},
                    )
                ],
                "timestamp": 10.25,
            },
            encode=True,
        ),
        case(
            "section 9.3, the last output",
            "outputs",
            [SECTION_9_FINAL],
            {
                "outputs": [one(tokens=[2], finish_reason=0)],
                "timestamp": 10.5,
                "finished_requests": ["r-1"],
                "weight_version": "default",
            },
            encode=True,
        ),
        case(
            "section 9.4, prompt logprobs in frames of their own",
            "outputs",
            [
                outputs(
                    [
                        output_slots(
                            s3=[
                                ["int32", [40, 3], 1],
                                ["float32", [40, 3], 2],
                                ["int32", [40], Ext(3, ranks)],
                                None,
                                None,
                            ]
                        )
                    ]
                ),
                ids,
                values,
            ],
            {
                "outputs": [
                    one(
                        new_prompt_logprobs_tensors={
                            "token_ids": array("int32", [40, 3], ids),
                            "logprobs": array("float32", [40, 3], values),
                            "selected_token_ranks": array("int32", [40], ranks),
                        }
                    )
                ],
                "timestamp": 10.5,
            },
            encode=True,
        ),
        case(
            "section 9.5, the answer to a utility call",
            "outputs",
            [bytes.fromhex("990090c0cb3ff0000000000000932ac092c0c2c0c0c0c0")],
            {
                "timestamp": 1.0,
                "utility_output": {"call_id": 42, "result": {"value": False}},
            },
            encode=True,
        ),
        case(
            "a utility call without a result",
            "outputs",
            [outputs([], s4=[42, None, [None, None]])],
            {"timestamp": 10.5, "utility_output": {"call_id": 42, "result": {}}},
            encode=True,
        ),
        case(
            "a utility call that failed",
            "outputs",
            [outputs([], s4=[-1, "no such method", None])],
            {
                "timestamp": 10.5,
                "utility_output": {"call_id": -1, "failure_message": "no such method"},
            },
            encode=True,
        ),
        case(
            "every slot of an output but logprobs",
            "outputs",
            [outputs([every], s0=3)],
            {"engine_index": 3, "outputs": [every_value], "timestamp": 10.5},
            encode=True,
        ),
        case(
            "statistics with every key, and three requests",
            "outputs",
            [
                outputs(
                    [
                        output_slots("a", [1]),
                        output_slots("b", [2, 3], s5=1),
                        output_slots("c", [], s5=2),
                    ],
                    s2=STATS,
                    s8="v2",
                )
            ],
            {
                "outputs": [
                    one("a", [1]),
                    one("b", [2, 3], finish_reason=1),
                    one("c", [], finish_reason=2),
                ],
                "scheduler_stats": meaning_of_stats(),
                "timestamp": 10.5,
                "weight_version": "v2",
            },
            encode=True,
        ),
        case(
            "a refused request",
            "outputs",
            [
                outputs(
                    [
                        output_slots(
                            tokens=[],
                            s5=3,
                            s18={
                                "code": "validation_error",
                                "message": "top_p",
                                "retryable": False,
                            },
                        )
                    ],
                    s5=["r-1"],
                )
            ],
            {
                "outputs": [
                    one(
                        tokens=[],
                        finish_reason=3,
                        error={"code": "validation_error", "message": "top_p"},
                    )
                ],
                "timestamp": 10.5,
                "finished_requests": ["r-1"],
            },
            encode=True,
        ),
        case(
            "logprobs with 64-bit ids, torch names, NaN and rank 0",
            "outputs",
            [
                outputs(
                    [
                        output_slots(
                            s2=[
                                ["int64", [1, 2], Ext(3, i8(5, 6))],
                                ["float32", [1, 2], Ext(3, nan_row)],
                                ["int64", [1], Ext(3, i8(0))],
                                None,
                            ]
                        )
                    ]
                )
            ],
            {
                "outputs": [
                    one(
                        new_logprobs={
                            "token_ids": array("<i8", [1, 2], i8(5, 6)),
                            "logprobs": array("<f4", [1, 2], nan_row),
                            "sampled_token_ranks": array("<i8", [1], i8(0)),
                        }
                    )
                ],
                "timestamp": 10.5,
            },
        ),
        case(
            "wave control",
            "outputs",
            [outputs([], s6=4)],
            {"timestamp": 10.5, "wave_complete": 4},
            encode=True,
        ),
        case(
            "short arrays",
            "outputs",
            [[1, [["a", [1]], ["b", [2], None, None, None, 0]]]],
            {"engine_index": 1, "outputs": [one("a", [1]), one("b", [2], finish_reason=0)]},
        ),
        case("no payload", "outputs", [[0, [], None, 1.0]], {"timestamp": 1.0}),
        case("an empty message", "outputs", [[]], {}),
        case(
            "slots of the future at every level",
            "outputs",
            [
                [
                    *outputs(
                        [
                            [
                                *output_slots(s2=[*logprobs, "more"]),
                                {"x": 1},
                            ]
                        ],
                        s4=[1, None, [None, 2, 3], 4],
                    ),
                    "tenth",
                ]
            ],
            {
                "outputs": [one(new_logprobs=logprobs_value)],
                "timestamp": 10.5,
                "utility_output": {"call_id": 1, "result": {"value": 2}},
            },
        ),
        case(
            "unknown keys, an unknown event, statistics with a key missing",
            "outputs",
            [
                outputs(
                    [
                        output_slots(
                            s7=[{"type": 99, "timestamp": 1, "more": 0}],
                            s11=PREFILL | {"of_the_future": 1},
                        )
                    ],
                    s2={"num_running_reqs": 1, "of_the_future": {}},
                )
            ],
            {
                "outputs": [
                    one(
                        events=[{"type": 99, "timestamp": 1.0}],
                        prefill_stats={"num_prompt_tokens": 3, "num_computed_tokens": 3},
                    )
                ],
                "scheduler_stats": {"num_running_reqs": 1},
                "timestamp": 10.5,
            },
        ),
        case(
            "an unknown finish reason costs only its request",
            "outputs",
            [outputs([output_slots("a", [1]), output_slots("b", [2], s5=77)])],
            {"outputs": [one("a", [1])], "timestamp": 10.5},
            failed=["b"],
        ),
        case(
            "wrong types cost only their request",
            "outputs",
            [
                outputs(
                    [
                        output_slots("a", [1]),
                        output_slots("b", s1="tokens"),
                        output_slots("c", s2=[["<i4", [9], 7], None, None, None]),
                        ["d"],
                        [17, [1]],
                        output_slots("e", [3]),
                    ]
                )
            ],
            {"outputs": [one("a", [1]), one("e", [3])], "timestamp": 10.5},
            failed=["b", "c", "d"],
        ),
        case(
            "unreadable statistics cost no request",
            "outputs",
            [outputs([output_slots("a", [1])], s2="busy")],
            {"outputs": [one("a", [1])], "timestamp": 10.5},
        ),
        case("an engine's death", "death", [b"ENGINE_CORE_DEAD"]),
    ]


# ------------------------------------------------------------------------------------------- others

REGISTRATION = {
    "max_model_len": 2048,
    "num_gpu_blocks": 1000,
    "block_size": 16,
    "dp_stats_address": None,
    "dtype": "bfloat16",
    "vllm_version": "0.33.0",
    "world_size": 1,
    "data_parallel_size": 1,
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "decode_context_parallel_size": 1,
    "data_parallel_rank": 0,
    "max_num_seqs": 64,
    "max_num_batched_tokens": 2048,
    "instance_id": "i",
    "supports_lora": False,
    "max_loras": 0,
    "mamba_block_size": None,
    "kv_cache_size_tokens": 16000,
    "kv_cache_max_concurrency": 7.5,
    "kv_events_config": None,
    "weight_transfer_backend": None,
    "enable_sleep_mode": False,
    "supports_draft_weight_updates": False,
    "effective_attention_block_size": None,
    "coord_store_port": 0,
    "coordinator_input_address": None,
    "coordinator_output_address": None,
}
REGISTRATION_REQUIRED = (
    "max_model_len",
    "num_gpu_blocks",
    "block_size",
    "dtype",
    "vllm_version",
    "world_size",
    "data_parallel_size",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "decode_context_parallel_size",
    "data_parallel_rank",
    "max_num_seqs",
    "max_num_batched_tokens",
    "instance_id",
    "supports_lora",
    "max_loras",
)

# What an engine that is one process with one model, and no adapters, reports.
DEFAULTS = {
    "world_size": 1,
    "data_parallel_size": 1,
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "decode_context_parallel_size": 1,
    "data_parallel_rank": 0,
    "supports_lora": False,
    "max_loras": 0,
}


def startup_cases() -> list[dict[str, Any]]:
    required = {key: REGISTRATION[key] for key in REGISTRATION_REQUIRED}
    meant = {key: value for key, value in required.items() if value != DEFAULTS.get(key)}
    sizes = {"kv_cache_size_tokens": 16000, "kv_cache_max_concurrency": 7.5}
    addresses = {
        "inputs": ["ipc:///x/i"],
        "outputs": ["ipc:///x/o"],
        "coordinator_input": None,
        "coordinator_output": None,
        "frontend_stats_publish_address": None,
    }
    init = {"addresses": addresses, "parallel_config": {}}
    coordinated = {
        "addresses": {
            "inputs": ["tcp://10.0.0.1:1", "tcp://10.0.0.1:2"],
            "outputs": ["tcp://10.0.0.1:3", "tcp://10.0.0.1:4"],
            "coordinator_input": "tcp://10.0.0.1:5",
            "coordinator_output": "tcp://10.0.0.1:6",
            "frontend_stats_publish_address": "tcp://10.0.0.1:7",
        },
        "parallel_config": {"data_parallel_size": 2, "data_parallel_master_ip": "10.0.0.1"},
    }
    hello = {"status": "HELLO", "local": True, "headless": False}
    ready = {"status": "READY", "local": False, "headless": True}
    return [
        case(
            "section 2.1, hello",
            "hello",
            [bytes.fromhex("83a6737461747573a548454c4c4fa56c6f63616cc3a8686561646c657373c2")],
            hello,
            encode=True,
        ),
        case("ready", "hello", [ready], ready, encode=True),
        case(
            "ready with a hash and more",
            "hello",
            [ready | {"parallel_config_hash": "ab", "num_redundant_experts": 1}],
            ready | {"parallel_config_hash": "ab"},
        ),
        case(
            "section 2.2, init",
            "init",
            [init],
            {"addresses": {"inputs": ["ipc:///x/i"], "outputs": ["ipc:///x/o"]}},
            encode=True,
        ),
        case("init with coordination", "init", [coordinated], coordinated, encode=True),
        case(
            "section 2.4, registration",
            "registration",
            [REGISTRATION],
            meant | sizes,
            encode=True,
        ),
        case("registration with required keys only", "registration", [required], meant),
        case(
            "registration with unknown keys and every optional one",
            "registration",
            [
                REGISTRATION
                | {
                    "of_the_future": [1],
                    "dp_stats_address": "tcp://10.0.0.1:7",
                    "supports_lora": True,
                    "max_loras": 4,
                    "kv_events_config": {"enable_kv_cache_events": True, "publisher": "zmq"},
                    "enable_sleep_mode": True,
                    "weight_transfer_backend": "nccl",
                }
            ],
            meant
            | sizes
            | {
                "dp_stats_address": "tcp://10.0.0.1:7",
                "supports_lora": True,
                "max_loras": 4,
                "kv_events_config": {"enable_kv_cache_events": True, "publisher": "zmq"},
                "enable_sleep_mode": True,
                "weight_transfer_backend": "nccl",
            },
        ),
    ]


def coordinator_cases() -> list[dict[str, Any]]:
    return [
        case(
            "section 6.4, counts of two engines",
            "coordinator_update",
            [bytes.fromhex("9392930102cb3fe0000000000000930000cb000000000000000007c3")],
            {
                "counts": [
                    {"waiting": 1, "running": 2, "kv_cache_usage": 0.5},
                    {"waiting": 0, "running": 0},
                ],
                "current_wave": 7,
                "engines_running": True,
            },
            encode=True,
        ),
        case(
            "a wave alone",
            "coordinator_update",
            [[None, 8, False]],
            {"counts": None, "current_wave": 8, "engines_running": False},
            encode=True,
        ),
        case(
            "counts without the cache, and slots of the future",
            "coordinator_update",
            [[[[1, 2]], 0, True, "more"]],
            {
                "counts": [{"waiting": 1, "running": 2}],
                "current_wave": 0,
                "engines_running": True,
            },
        ),
    ]


# ------------------------------------------------------------------------------------------- broken


def broken(name: str, frames: list[Any], recovered: Any = None) -> dict[str, Any]:
    return case(name, "request", frames, refused=True, recovered=recovered)


def broken_cases() -> list[dict[str, Any]]:
    """Messages an engine must refuse, naming whom it can answer; and others nobody can read."""

    def parameters(name: str, value: Any, **more: Any) -> dict[str, Any]:
        params = {name: value} | more
        return broken(f"{name} {value!r}", [ADD, add_slots(sampling_params=params)], "r-1")

    structured = STRUCTURED | {"_backend": "xgrammar"}
    inside = [
        parameters("presence_penalty", 2.5),
        parameters("frequency_penalty", -2.5),
        parameters("repetition_penalty", 0.0),
        parameters("repetition_penalty", float("inf")),
        parameters("temperature", -0.5),
        parameters("temperature", 2.5),
        parameters("temperature", float("nan")),
        parameters("temperature", "hot"),
        parameters("top_p", 0.0),
        parameters("top_p", 1.5),
        parameters("top_k", -2),
        parameters("min_p", 1.5),
        parameters("max_tokens", 0),
        parameters("min_tokens", -1),
        parameters("min_tokens", 5, max_tokens=4),
        parameters("stream_interval", 0),
        parameters("logprobs", -2),
        parameters("prompt_logprobs", -2),
        parameters("stop", [""]),
        parameters("bad_words", [""]),
        parameters("n", 2, temperature=0.0),
        parameters("n", 0),
        parameters("output_kind", 9),
        parameters("stop_token_ids", ["7"]),
        parameters("seed", 1.5),
    ]
    constraints = [
        broken(
            f"structured_outputs {name}",
            [ADD, add_slots(sampling_params={"structured_outputs": structured | value})],
            "r-1",
        )
        for name, value in (
            ("json true", {"json": True}),
            ("json array", {"json": []}),
            ("json number", {"json": 1}),
            ("none", {}),
            ("two", {"regex": "a", "grammar": "b"}),
            ("of an unknown backend", {"regex": "a", "_backend": "magic"}),
        )
    ]
    lora = add_slots(lora_request=["a", 0, "/p", None, False, False])
    old_lora = add_slots(lora_request=["a", 1, "/p", None, None, False, False])
    extension = [Ext(1, b"\x80\x04N."), Ext(2, b"\x80\x04N."), Ext(9, b"x")]
    arrays = [
        ("out of range", ["float32", [2], 2]),
        ("frame 0", ["float32", [2], 0]),
        ("negative", ["float32", [2], -1]),
        ("a bool", ["float32", [2], True]),
        ("bytes", ["float32", [2], b"\0" * 8]),
        ("too short", ["float32", [3], Ext(3, b"\0" * 8)]),
        ("too long", ["float32", [1], Ext(3, b"\0" * 8)]),
        ("negative shape", ["float32", [-2], Ext(3, b"\0" * 8)]),
        ("huge shape", ["float32", [2**40, 2**40, 0], Ext(3, b"")]),
        ("unknown type", ["object", [1], Ext(3, b"\0" * 8)]),
        ("numpy object", ["|O", [1], Ext(3, b"\0" * 8)]),
        ("no list", {"a": 1}),
        ("short", ["float32", [2]]),
    ]
    return [
        *inside,
        *constraints,
        broken("lora id 0", [ADD, lora], "r-1"),
        broken("lora of release 0.32", [ADD, old_lora], "r-1"),
        *(
            broken(f"extension {ext.code}", [ADD, add_slots(kv_hints={"x": ext})], "r-1")
            for ext in extension
        ),
        *(
            broken(f"array, {name}", [ADD, add_slots(prompt_embeds=value), b"\0" * 8], "r-1")
            for name, value in arrays
        ),
        broken("too few slots", [ADD, add_slots()[:8]], "r-1"),
        broken("tokens of the wrong type", [ADD, add_slots(prompt_token_ids="abc")], "r-1"),
        broken("cut short", [ADD, SECTION_9_ADD[:-3]], "r-1"),
        broken("cut within the id", [ADD, SECTION_9_ADD[:5]]),
        broken("bytes after the end", [ADD, SECTION_9_ADD + b"\0"], "r-1"),
        broken("nested too deeply", [ADD, _deep()], "r-1"),
        broken("an id that is no string", [ADD, add_slots(request_id=7)]),
        broken("an id that is no UTF-8", [ADD, Raw(b"\x99\xa2\xff\xfe" + b"\xc0" * 8)]),
        broken("an empty array", [ADD, []]),
        broken("no array", [ADD, {"request_id": "r-1"}]),
        broken("an empty frame", [ADD, b""]),
        broken("an unknown type", [b"\x09", []]),
        broken("a type of two bytes", [b"\x00\x00", add_slots()]),
        broken("no payload", [ADD]),
        broken("abort of a number", [ABORT, [1]]),
        broken("abort that is no list", [ABORT, "r-1"]),
        broken("utility without a method", [UTILITY, [0, 42]], [0, 42]),
        broken("utility with arguments that are no list", [UTILITY, [0, 42, "m", 7]], [0, 42]),
        broken("utility without an id", [UTILITY, [0]]),
        broken("utility that is no list", [UTILITY, "is_sleeping"]),
        case("no message pack", "outputs", [b"\xc1"], refused=True),
        case("no frames of bytes", "outputs", [b""], refused=True),
        case("no list", "outputs", [{"outputs": []}], refused=True),
        case("outputs cut short", "outputs", [SECTION_9_FINAL[:-4]], refused=True),
        case("outputs with a pickle", "outputs", [outputs([], s4=Ext(1, b"N."))], refused=True),
        case("almost a death", "outputs", [b"ENGINE_CORE_DEAD!"], refused=True),
        case("registration of nothing", "registration", [b""], refused=True),
        case(
            "registration without a block size",
            "registration",
            [{key: REGISTRATION[key] for key in REGISTRATION_REQUIRED if key != "block_size"}],
            refused=True,
        ),
        case("init without addresses", "init", [{"parallel_config": {}}], refused=True),
        case("hello without a status", "hello", [{"local": True}], refused=True),
    ]


def _deep() -> Raw:
    """An ADD whose last slot is a list in a list in a list, 20,000 times."""
    return Raw(pack(add_slots())[:-1] + b"\x81\xa1x" + b"\x91" * 20_000 + b"\xc0")


FILES = {
    "requests": request_cases,
    "outputs": output_cases,
    "startup": startup_cases,
    "coordinator": coordinator_cases,
    "broken": broken_cases,
}


def render(name: str) -> str:
    cases = FILES[name]()
    names = [entry["name"] for entry in cases]
    assert len(set(names)) == len(names), names
    lines = ",\n".join(json.dumps(entry, ensure_ascii=True) for entry in cases)
    return f"[\n{lines}\n]\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in FILES:
        (FOLDER / f"{name}.json").write_text(render(name), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
