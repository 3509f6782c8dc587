# SPDX-License-Identifier: Apache-2.0
"""The requests that both frontends must answer alike: valid ones, wrong ones, every route.

Whatever generates is greedy or seeded, so that the same model gives the same tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MODEL = "tiny"


@dataclass(frozen=True)
class Case:
    """One request; `generates` marks those that can be streamed as well."""

    name: str
    method: str
    path: str
    body: bytes = b""
    generates: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    def streamed(self) -> Case:
        """The same request as a stream with usage."""
        fields = json.loads(self.body)
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return Case(f"{self.name}-stream", self.method, self.path, encode(fields))


def encode(fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HI = {"role": "user", "content": "Hi"}


def chat(name: str, **fields: Any) -> Case:
    base = {"model": MODEL, "messages": [HI], "max_tokens": 12, "temperature": 0}
    return Case(f"chat-{name}", "POST", CHAT, encode(base | fields), True)


def completion(name: str, **fields: Any) -> Case:
    base = {"model": MODEL, "prompt": "Once upon", "max_tokens": 12, "temperature": 0}
    return Case(f"completion-{name}", "POST", COMPLETIONS, encode(base | fields), True)


def wrong_chat(name: str, **fields: Any) -> Case:
    base = {"model": MODEL, "messages": [HI], "max_tokens": 4, "temperature": 0}
    body = {key: value for key, value in (base | fields).items() if value is not ...}
    return Case(f"wrong-chat-{name}", "POST", CHAT, encode(body))


def wrong_completion(name: str, **fields: Any) -> Case:
    base = {"model": MODEL, "prompt": "x", "max_tokens": 4, "temperature": 0}
    body = {key: value for key, value in (base | fields).items() if value is not ...}
    return Case(f"wrong-completion-{name}", "POST", COMPLETIONS, encode(body))


def said(role: str, content: Any, **extra: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **extra}


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}

CONVERSATIONS: dict[str, list[Any]] = {
    "system": [said("system", "Be brief."), HI],
    "turns": [HI, said("assistant", "Hello!"), said("user", "And now?")],
    "developer": [said("developer", "Speak French."), HI],
    "accents": [said("user", "Où êtes-vous, naïve façade?")],
    "japanese": [said("user", "日本語で答えてください。")],
    "emoji": [said("user", "👩‍👩‍👧‍👦 🇫🇷 😀")],
    "arabic": [said("user", "مرحبا بالعالم")],
    "combining": [said("user", "e\u0301 vs é, ﬁ vs fi")],
    "controls": [said("user", "tab\there\nline\r\n\u0000nul \u007f")],
    "quotes": [said("user", 'a "quoted" \\ backslash / slash')],
    "html": [said("user", "<b>&amp;</b> {{ braces }} {% raw %}")],
    "special-token": [said("user", "before <s> after </s>")],
    "empty": [said("user", "")],
    "blank": [said("user", "   \n ")],
    "parts": [said("user", [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}])],
    "part-strings": [said("user", ["one", "two"])],
    "part-kinds": [said("user", [{"type": "input_text", "text": "a"}])],
    "refusal-part": [HI, said("assistant", [{"type": "refusal", "refusal": "no"}]), HI],
    "no-parts": [said("user", [])],
    "name": [said("user", "Hi", name="Ann")],
    "tool-call": [HI, {"role": "assistant", "tool_calls": [CALL]}, said("tool", "1")],
    "tool-message": [HI, said("tool", "42", tool_call_id="c1")],
    "reasoning": [HI, said("assistant", "Yes", reasoning_content="hm"), HI],
    "silent-assistant": [HI, {"role": "assistant", "content": None}, HI],
    "long": [said("user", "word " * 300)],
}

# Fields that both routes take, with values that change something.
COMMON: dict[str, dict[str, Any]] = {
    "plain": {},
    "one-token": {"max_tokens": 1},
    "seed": {"temperature": 1, "seed": 7},
    "seed-zero": {"temperature": 0.7, "seed": 0},
    "seed-negative": {"temperature": 1, "seed": -5},
    "seed-largest": {"temperature": 1, "seed": 2**63 - 1, "n": 2},
    "top-p": {"temperature": 1, "seed": 1, "top_p": 0.5},
    "top-k": {"temperature": 1, "seed": 1, "top_k": 5},
    "top-k-off": {"temperature": 1, "seed": 1, "top_k": -1},
    "min-p": {"temperature": 1, "seed": 1, "min_p": 0.2},
    "hot": {"temperature": 2, "seed": 3},
    "whole-float": {"temperature": 1.0, "seed": 4.0, "max_tokens": 6.0},
    "presence": {"presence_penalty": 1.5},
    "frequency": {"frequency_penalty": -1},
    "repetition": {"repetition_penalty": 1.3},
    "n-3": {"n": 3},
    "n-3-seeded": {"n": 3, "temperature": 1, "seed": 11},
    "n-3-stop": {"n": 3, "temperature": 1, "seed": 12, "stop": ["a", "e", "\u0010"]},
    "stop-string": {"stop": "e"},
    "stop-list": {"temperature": 1, "seed": 5, "max_tokens": 40, "stop": ["x", "yz", "0", "\n"]},
    "stop-included": {
        "temperature": 1,
        "seed": 5,
        "max_tokens": 40,
        "stop": ["a", "b", "c"],
        "include_stop_str_in_output": True,
    },
    "stop-replacement": {"stop": ["\ufffd\ufffd"], "max_tokens": 30},
    "stop-after-min": {"temperature": 1, "seed": 6, "stop": ["a", "i"], "min_tokens": 10},
    "stop-ids": {"stop_token_ids": list(range(0, 256, 3)), "max_tokens": 30},
    "stop-ids-included": {
        "stop_token_ids": list(range(0, 256, 3)),
        "include_stop_str_in_output": True,
    },
    "stop-ids-min": {"stop_token_ids": list(range(0, 256, 3)), "min_tokens": 8},
    "ignore-eos": {"ignore_eos": True},
    "eos-wanted": {"logit_bias": {"257": 100}},
    "eos-ignored": {"logit_bias": {"257": 100}, "ignore_eos": True, "max_tokens": 3},
    "eos-shown": {
        "logit_bias": {"257": 100},
        "ignore_eos": True,
        "skip_special_tokens": False,
        "max_tokens": 3,
    },
    "bias": {"logit_bias": {"65": 100, "66": 99.5}},
    "bias-clamped": {"logit_bias": {"65": 1000}},
    "no-bias": {"logit_bias": {}},
    "allowed": {"allowed_token_ids": [65, 66, 67]},
    "allowed-one": {"allowed_token_ids": [0]},
    "bad-words": {"allowed_token_ids": [65, 66, 67], "bad_words": ["b", "c"]},
    "bad-space": {"bad_words": [" ", "\n", "x"]},
    "repeats": {
        "allowed_token_ids": [65, 66],
        "logit_bias": {"65": 100},
        "repetition_detection": {"max_pattern_size": 3, "min_count": 4},
    },
    "repeats-too-late": {
        "allowed_token_ids": [65],
        "max_tokens": 5,
        "repetition_detection": {"max_pattern_size": 9, "min_pattern_size": 2, "min_count": 3},
    },
    "repeats-unwatched": {
        "allowed_token_ids": [65],
        "repetition_detection": {"max_pattern_size": 0, "min_pattern_size": None},
    },
    "thoughts-unlimited": {"thinking_token_budget": -1},
    "priority": {"priority": -3},
    "salt": {"cache_salt": "s", "session_id": "t", "user": "u", "metadata": {"k": "v"}},
    "truncated": {"truncate_prompt_tokens": 3},
    "truncated-to-context": {"truncate_prompt_tokens": -1},
    "ids": {"return_token_ids": True},
    "ids-n": {"return_token_ids": True, "n": 2},
    "special-tokens-added": {"add_special_tokens": True},
    "special-tokens-not-added": {"add_special_tokens": False},
    "unknown-field": {"no_such_field": {"a": [1]}, "another": None},
    "nulls": {"stop": None, "seed": None, "n": None, "logit_bias": None, "top_p": None},
    "neutral": {"best_of": 1, "echo": False, "use_beam_search": False, "length_penalty": 1.0},
    "text-format": {"response_format": {"type": "text"}, "vllm_xargs": {}},
}

VALID = [
    *(chat(f"messages-{name}", messages=messages) for name, messages in CONVERSATIONS.items()),
    *(chat(name, **fields) for name, fields in COMMON.items()),
    *(completion(name, **fields) for name, fields in COMMON.items()),
    completion("thought-closed", prompt="x<t>", thinking_token_budget=4),
    completion("thought-not-begun", prompt="x<t>y</t>", thinking_token_budget=0),
    chat("max-completion-tokens", max_completion_tokens=5, max_tokens=9),
    chat("logprobs", logprobs=True),
    chat("top-logprobs", logprobs=True, top_logprobs=5),
    chat("top-logprobs-n", logprobs=True, top_logprobs=2, n=3, temperature=1, seed=9),
    chat("top-logprobs-ids", logprobs=True, top_logprobs=2, return_tokens_as_token_ids=True),
    chat("logprobs-stop", logprobs=True, stop=["a", "e", "i", "\u0010"], max_tokens=40),
    chat("no-logprobs", logprobs=False, top_logprobs=0),
    chat("no-generation-prompt", add_generation_prompt=False),
    chat(
        "continued",
        messages=[HI, said("assistant", "The answer")],
        continue_final_message=True,
    ),
    chat("template-kwargs", chat_template_kwargs={"enable_thinking": False}),
    completion("neutral-elsewhere", tools=[], messages=None, store=False),
    chat("no-tools", tools=[], tool_choice="none", parallel_tool_calls=False),
    completion("no-max-tokens", max_tokens=None),
    completion("empty-ish", prompt=" "),
    completion("accents", prompt="Où êtes-vous"),
    completion("japanese", prompt="昔々あるところに"),
    completion("emoji", prompt="😀😀"),
    completion("token-ids", prompt=[72, 101, 108, 108, 111]),
    completion("one-token-id", prompt=[0]),
    *(
        # Bytes that begin a character: the tokens are the sorted alphabet of byte-level BPE.
        completion(f"half-a-character-{name}", prompt=prompt, **fields)
        for name, prompt, fields in (
            ("left", [65, 172, 253], {}),
            ("stop", [65, 172, 253], {"stop": ["\ufffd"]}),
            ("completed", [65, 172, 253], {"allowed_token_ids": [246]}),
            ("begun", [172], {"logit_bias": {"253": 100}, "max_tokens": 1}),
        )
    ),
    completion("texts", prompt=["one", "two", "three"]),
    completion("lists", prompt=[[1, 2], [3], [4, 5, 6]]),
    completion("one-list", prompt=[[1, 2]]),
    completion("texts-n", prompt=["one", "two"], n=3, temperature=1, seed=2),
    completion("texts-ids", prompt=["one", "two"], return_token_ids=True),
    completion("logprobs", logprobs=3),
    completion("logprobs-zero", logprobs=0),
    completion("logprobs-n", logprobs=2, n=3, temperature=1, seed=1),
    completion("logprobs-ids", logprobs=2, return_tokens_as_token_ids=True),
    completion("logprobs-prompts", logprobs=1, prompt=["a", "b"]),
    completion("logprobs-stop", logprobs=1, stop=["a", "e", "i", "\u0010"], max_tokens=40),
    completion("long", prompt="word " * 300),
    completion("no-suffix", suffix=""),
    completion("echo", prompt="Où êtes-vous", echo=True),
    completion("echo-prompts-n", prompt=["one", "two"], echo=True, n=2, temperature=1, seed=4),
    completion("echo-ids", prompt=[72, 101, 108], echo=True, return_token_ids=True),
    completion("echo-half-a-character", prompt=[65, 172, 253], echo=True),
    completion("echo-logprobs", prompt="Hello", echo=True, logprobs=2),
    completion("echo-logprobs-zero", prompt=["a", "bc"], echo=True, logprobs=0),
    completion("echo-both-logprobs", prompt="abc", echo=True, logprobs=1, prompt_logprobs=3),
    completion("echo-stop", prompt="Hello", echo=True, stop=["l", "e", "a"], max_tokens=40),
    completion("prompt-logprobs", prompt_logprobs=2),
    completion("prompt-alone", prompt=["Hello", "a"], max_tokens=0, echo=True, logprobs=1),
    completion("prompt-alone-logprobs", prompt="Hello", max_tokens=0, prompt_logprobs=1),
    completion("named-logprobs", logprobs=0, logprob_token_ids=[66, 65], n=2),
    chat("named-logprobs", logprobs=True, logprob_token_ids=[257, 65]),
    completion("prompt-logprobs-list", prompt_logprobs=0, prompt=[[1, 2, 3], [4, 5]]),
    completion("prompt-logprobs-ids", prompt_logprobs=1, logprobs=1, return_token_ids=True),
    chat("prompt-logprobs", prompt_logprobs=2),
    chat("prompt-logprobs-n", prompt_logprobs=1, n=2, return_token_ids=True),
    completion("interval", stream_interval=3, logprobs=1, return_token_ids=True),
    chat("interval-n", stream_interval=1000, n=2, temperature=1, seed=5),
    chat("documents", documents=[{"title": "t", "text": "x"}]),
    chat("no-documents", documents=[]),
]

# Answers that are given whole only.
WHOLE = [
    Case(
        f"best-of-{name}",
        "POST",
        path,
        build("x", best_of=4, temperature=1, seed=11, **fields).body,
    )
    for name, path, build, fields in (
        ("chat", CHAT, chat, {}),
        ("chat-logprobs", CHAT, chat, {"n": 2, "logprobs": True}),
        ("completion", COMPLETIONS, completion, {"n": 3}),
        ("completion-prompts", COMPLETIONS, completion, {"prompt": ["a", "b"], "logprobs": 1}),
        ("completion-echo", COMPLETIONS, completion, {"echo": True}),
    )
]

# name -> a field's wrong values, on both routes
WRONG_VALUES: dict[str, list[Any]] = {
    "temperature": [-0.1, 2.1, "hot", True, [1]],
    "top_p": [0, 1.5, -1, "x"],
    "top_k": [-2, 1.5, "x", 2**31],
    "min_p": [-0.1, 1.1, {}],
    "presence_penalty": [2.5, -3, "x"],
    "frequency_penalty": [-2.01],
    "repetition_penalty": [0, -1, "x", 3.5e38, 1e39],
    "n": [0, -1, 129, 1.5, "two"],
    "max_tokens": [0, -1, "many", 2**32],
    "min_tokens": [-1, 100],
    "repetition_detection": [
        5,
        [],
        {"max_pattern_size": -1},
        {"max_pattern_size": 4097, "min_count": 2},
        {"max_pattern_size": 1.5},
        {"max_pattern_size": "x"},
        {"max_pattern_size": True},
        {"max_pattern_size": 2, "min_count": 1},
        {"max_pattern_size": 2},
        {"max_pattern_size": 2, "min_pattern_size": 3, "min_count": 2},
        {"min_pattern_size": 1},
        {"max_pattern_size": 3, "min_count": 5000},
    ],
    "thinking_token_budget": [-2, 1.5, "x", 2**32],
    "seed": ["x", 1.5, 2**63, 2**64],
    "stop": [5, [1], [""], ["a"] * 5, "y" * 1025, {}],
    "stop_token_ids": [5, ["a"], [-1], [2**31], [260], [1.5]],
    "logit_bias": [
        5,
        {"x": 1},
        {"+1": 1},
        {"1": None},
        {"9" * 5000: 1},
        {"1": "y"},
        {"260": 1},
        {"-1": 1},
        [],
    ],
    "allowed_token_ids": [[260], "x", [-1]],
    "bad_words": ["word", [""], [1]],
    "ignore_eos": ["yes", 1],
    "stream": ["yes", 0],
    "stream_options": [{"include_usage": True}, 5, [], {"include_usage": 2**64}],
    "model": ["other", 5, ["tiny"]],
    "priority": ["high", 2**31],
    "truncate_prompt_tokens": [-2, 0, "x"],
    "prompt_logprobs": [-1, 21, "x"],
    "return_token_ids": ["x"],
    "cache_salt": [5, "z" * 513],
    "request_id": [5, "", "a\nb", "\u0085", "z" * 513],
    "session_id": ["", "a\tb"],
    "best_of": [0, 129, "x"],
    "stream_interval": [0, 1025, "x"],
    "use_beam_search": [True],
    "response_format": [{"type": "json_object"}, "text"],
    "structured_outputs": [{"json": {}}],
    "guided_json": [{}],
    "kv_transfer_params": [{"a": 1}],
}
WRONG_CHAT_VALUES: dict[str, list[Any]] = {
    "messages": [..., None, "hi", [], {}, [5], [[]], [{}]],
    "logprobs": [2, "yes"],
    "top_logprobs": [3, -1],
    "tools": [[{"type": "function", "function": {"name": "f"}}]],
    "tool_choice": ["required", {"type": "function", "function": {"name": "f"}}],
    "chat_template": ["{{ messages }}", 5, "x" * 65_537],
    "chat_template_kwargs": [5, [], {"messages": []}, {"a": 1, "tools": None}],
    "prompt": ["x"],
    "suffix": ["end"],
    "reasoning_effort": ["low"],
    "echo": [True],
    "documents": [{}, ["x"]],
    "modalities": [["text", "audio"]],
    "store": [True],
    "add_generation_prompt": ["yes"],
    "max_completion_tokens": [0, "x"],
}
WRONG_MESSAGES: dict[str, Any] = {
    "no-role": {"content": "x"},
    "role-number": {"role": 5, "content": "x"},
    "role-unknown": {"role": "robot", "content": "x"},
    "no-content": {"role": "user"},
    "content-number": {"role": "user", "content": 5},
    "content-object": {"role": "user", "content": {"a": 1}},
    "part-number": {"role": "user", "content": [5]},
    "part-no-type": {"role": "user", "content": [{"text": "x"}]},
    "part-image": {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
    "part-no-text": {"role": "user", "content": [{"type": "text"}]},
    "part-text-number": {"role": "user", "content": [{"type": "text", "text": 5}]},
    "name-number": {"role": "user", "content": "x", "name": 5},
    "calls-string": {"role": "assistant", "tool_calls": "x"},
    "calls-empty-object": {"role": "assistant", "tool_calls": [{}]},
    "calls-bad-json": {
        "role": "assistant",
        "tool_calls": [{"function": {"name": "f", "arguments": "{"}}],
    },
}
WRONG_COMPLETION_VALUES: dict[str, list[Any]] = {
    "prompt": [..., None, 5, {}, [], [[]], ["a", 1], [1, "a"], [[1], "a"], [-1], [260], [[1], []]],
    "logprobs": [-1, 21, True, "x"],
    "suffix": ["end"],
    "echo": ["yes"],
    "prompt_embeds": ["AAAA"],
    "messages": [[HI]],
    "tools": [[{"type": "function", "function": {"name": "f"}}]],
    "max_completion_tokens": [5],
}

WRONG = [
    *(
        wrong_chat(f"{name}-{index}", **{name: value})
        for name, values in {**WRONG_VALUES, **WRONG_CHAT_VALUES}.items()
        for index, value in enumerate(values)
    ),
    *(
        wrong_completion(f"{name}-{index}", **{name: value})
        for name, values in {**WRONG_VALUES, **WRONG_COMPLETION_VALUES}.items()
        for index, value in enumerate(values)
    ),
    *(wrong_chat(f"message-{name}", messages=[HI, m]) for name, m in WRONG_MESSAGES.items()),
    wrong_chat("too-long", messages=[said("user", "word " * 16_000)]),
    wrong_completion("too-long", prompt="word " * 16_000),
    wrong_completion("too-many-choices", prompt=["x"] * 9, n=128),
    wrong_chat("best-of-streamed", best_of=2, stream=True),
    wrong_completion("members", **{f"x{at}": at for at in range(1024)}),
    wrong_completion("best-of-below-n", best_of=2, n=3),
    wrong_completion("best-of-too-many", prompt=["x"] * 9, best_of=128),
    wrong_chat("continued-and-answered", continue_final_message=True, add_generation_prompt=True),
    wrong_chat("stream-options-inside", stream=True, stream_options={"include_usage": "yes"}),
    wrong_chat(
        "continuous-usage-alone", stream=True, stream_options={"continuous_usage_stats": True}
    ),
    wrong_chat("continued-nothing", messages=[said("user", " ")], continue_final_message=True),
    wrong_completion(
        "allowed-all-stop", allowed_token_ids=[65], stop_token_ids=[65, 66], min_tokens=1
    ),
    wrong_completion("allowed-all-bad", allowed_token_ids=[65], bad_words=["b"]),
    wrong_completion("nothing-wanted", max_tokens=0),
    wrong_chat("named-without-logprobs", logprob_token_ids=[65]),
    wrong_completion("named-and-likeliest", logprob_token_ids=[65], logprobs=1),
    wrong_completion("named-too-many", logprob_token_ids=[65] * 21, logprobs=0),
    wrong_completion("named-unknown", logprob_token_ids=[260], logprobs=0),
    wrong_chat("min-above-max", min_tokens=9, max_tokens=4),
    wrong_chat("logprobs-above-limit", logprobs=True, top_logprobs=21),
    wrong_completion("prompt-logprobs-too-many", prompt=[1] * 150, n=128, prompt_logprobs=15),
    wrong_completion("echo-logprobs-too-many", prompt=[1] * 150, n=128, echo=True, logprobs=15),
]

MALFORMED = [
    Case(f"malformed-{index}", "POST", path, body)
    for index, (path, body) in enumerate(
        (path, body)
        for path in (CHAT, COMPLETIONS, "/tokenize", "/detokenize")
        for body in (
            b"",
            b"{",
            b'{"prompt": "x"',
            b'{"prompt" "x"}',
            b"{'prompt': 'x'}",
            b'{"prompt": "x"} trailing',
            b"[]",
            b'"text"',
            b"null",
            b'{"prompt": "\xff"}',
            b'{"prompt": NaN}',
            b'{"prompt": "\\ud83d"}',
            b'{"messages": [{"role": "user", "content": "\\ud83d"}]}',
            b'{"prompt": 5, "prompt": null, "n": "x", "n": 1}',
        )
    )
]

TOKENS = [
    *(
        Case(f"tokenize-{index}", "POST", "/tokenize", encode(body))
        for index, body in enumerate(
            [
                {"prompt": "Hello"},
                {"model": MODEL, "prompt": "日本語 😀"},
                {"prompt": "", "return_token_strs": True},
                {"prompt": "a<s>b", "return_token_strs": True},
                {"prompt": "x", "add_special_tokens": False},
                {"messages": [HI]},
                {"messages": [HI], "add_generation_prompt": False, "return_token_strs": True},
                {"messages": [HI], "add_special_tokens": True},
                {},
                {"prompt": 5},
                {"prompt": None},
                {"prompt": "x", "model": "other"},
                {"prompt": "x", "return_token_strs": "yes"},
                {"messages": []},
                {"messages": "x"},
            ]
        )
    ),
    *(
        Case(f"detokenize-{index}", "POST", "/detokenize", encode(body))
        for index, body in enumerate(
            [
                {"tokens": [72, 105]},
                {"tokens": []},
                {"model": MODEL, "tokens": [256, 72, 257]},
                {"tokens": [195, 169, 240]},
                {},
                {"tokens": "x"},
                {"tokens": [-1]},
                {"tokens": [260]},
                {"tokens": [2**31]},
                {"tokens": [1], "model": "other"},
            ]
        )
    ),
]

ROUTES = [
    Case(f"route-{method}-{path}", method, path)
    for method, path in (
        ("GET", "/v1/models"),
        ("GET", "/v1/models/tiny"),
        ("GET", "/v1/models/other"),
        ("GET", "/version"),
        ("GET", "/health"),
        ("GET", "/live"),
        ("GET", "/ready"),
        ("GET", "/ping"),
        ("POST", "/ping"),
        ("GET", "/nothing"),
        ("POST", "/v1/nothing"),
        ("GET", "/v1/chat/completions"),
        ("PUT", "/v1/completions"),
        ("DELETE", "/v1/models"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/embeddings"),
        ("POST", "/sleep"),
        ("GET", "/is_sleeping"),
        ("POST", "/v1/load_lora_adapter"),
    )
]

HEADS = [
    Case(f"head-{index}", "POST", path, b'{"prompt": "x"}', headers=headers)
    for index, (path, headers) in enumerate(
        (path, tuple(headers))
        for path in ("/tokenize", "/v1/nothing", "/v1/embeddings", "/ping")
        for headers in (
            [("Content-Type", "application/json")],
            [("Content-Type", "Application/Vnd.API+JSON; charset=utf-8")],
            [("Content-Type", "text/plain")],
            [("Content-Encoding", "gzip")],
            [("Content-Encoding", "Identity")],
            [("Origin", "https://evil.example")],
            [("Origin", "null")],
            [("Sec-Fetch-Site", "cross-site")],
            [("Sec-Fetch-Site", "same-origin"), ("Origin", "https://proxy.example")],
        )
    )
]

CORPUS = [
    *HEADS,
    *VALID,
    *(case.streamed() for case in VALID),
    *WHOLE,
    *WRONG,
    *MALFORMED,
    *TOKENS,
    *ROUTES,
]
