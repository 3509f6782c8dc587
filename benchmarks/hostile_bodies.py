# SPDX-License-Identifier: Apache-2.0
"""Bodies of at most 64 KiB that are as much work as a stranger can make of them.

`bodies(seed, count)` gives (kind, path, body); the same for the same seed. Kinds take turns, so
that each gets its share.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence

LARGEST = 64 << 10
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_ROOM = LARGEST - 512  # for what stands around a value

Body = tuple[str, str]  # path, text


def _chat(field: str, value: str) -> Body:
    if field == "messages":
        return CHAT, f'{{"messages":{value},"max_tokens":1}}'
    message = '[{"role":"user","content":"x"}]'
    return CHAT, f'{{"messages":{message},"{field}":{value},"max_tokens":1}}'


def _completion(field: str, value: str, more: str = "") -> Body:
    prompt = "" if field == "prompt" else '"prompt":"x",'
    return COMPLETIONS, f'{{{prompt}"{field}":{value},"max_tokens":1{more}}}'


def _either(rng: random.Random, field: str, value: str) -> Body:
    return rng.choice((_chat, _completion))(field, value)


def _size(rng: random.Random) -> int:
    return rng.choice((_ROOM, _ROOM, _ROOM // 2, rng.randrange(64, _ROOM)))


def _list(unit: str, size: int) -> str:
    return "[" + ",".join([unit] * (size // (len(unit.encode()) + 1))) + "]"


def _text(unit: str, size: int) -> str:
    """A JSON string of `unit` over and over, at most `size` bytes in UTF-8."""
    written = json.dumps(unit, ensure_ascii=False)[1:-1]
    return f'"{written * ((size - 2) // len(written.encode()))}"'


ANY_FIELD = [
    "messages",
    "prompt",
    "stop",
    "stop_token_ids",
    "bad_words",
    "logit_bias",
    "allowed_token_ids",
    "n",
    "seed",
    "temperature",
    "chat_template_kwargs",
    "documents",
    "tools",
    "tool_choice",
    "response_format",
    "structured_outputs",
    "metadata",
    "stream_options",
    "user",
    "model",
    "request_id",
    "cache_salt",
    "logprobs",
    "prompt_logprobs",
    "unknown_field",
]


def deep_arrays(rng: random.Random) -> Body:
    depth = _size(rng) // 2
    return _either(rng, rng.choice(ANY_FIELD), "[" * depth + "]" * depth)


def deep_objects(rng: random.Random) -> Body:
    depth = _size(rng) // 6
    return _either(rng, rng.choice(ANY_FIELD), '{"a":' * depth + "1" + "}" * depth)


def unclosed(rng: random.Random) -> Body:
    return rng.choice((CHAT, COMPLETIONS)), rng.choice(('{"a":', "[", '"', '{"a":"')) * (_ROOM // 6)


def wide_values(rng: random.Random) -> Body:
    unit = rng.choice(('"a"', "1", "[]", "{}", '{"a":1}', "null", "1e5", '"\\u0041"'))
    return _either(rng, rng.choice(ANY_FIELD), _list(unit, _size(rng)))


def stop_strings(rng: random.Random) -> Body:
    return _either(rng, rng.choice(("stop", "bad_words")), _list(rng.choice(('""', '"a"')), _ROOM))


def bad_words(rng: random.Random) -> Body:
    words = [rng.choice("abé你 ") * rng.randrange(1, 60) + str(at) for at in range(1024)]
    while len(json.dumps(words, ensure_ascii=False).encode()) > _ROOM:
        words.pop()
    return _either(rng, "bad_words", json.dumps(words, ensure_ascii=False))


def long_stop_strings(rng: random.Random) -> Body:
    stop = json.dumps([rng.choice(("a", "ab", "aab")) * 300 + str(at) for at in range(4)])
    prompt = _text("a", _ROOM - len(stop))
    return _completion("prompt", prompt, f',"stop":{stop},"echo":true')


def logit_bias(rng: random.Random) -> Body:
    count = rng.choice((1024, 3000))
    entries = ",".join(
        f'"{rng.randrange(49152)}":{rng.uniform(-200, 200):.3f}' for _ in range(count)
    )
    return _either(rng, "logit_bias", f"{{{entries}}}")


def token_lists(rng: random.Random) -> Body:
    field = rng.choice(("allowed_token_ids", "stop_token_ids", "prompt"))
    ids = json.dumps([rng.randrange(49152) for _ in range(_ROOM // 8)], separators=(",", ":"))
    return _completion(field, ids)


def duplicate_keys(rng: random.Random) -> Body:
    member = rng.choice(('"prompt":"x"', '"messages":[]', '"stop":["a"]', '"x":1', '"":{}'))
    return COMPLETIONS, "{" + ",".join([member] * (_ROOM // (len(member) + 1))) + "}"


def many_members(rng: random.Random) -> Body:
    members = ",".join(f'"{rng.randrange(10**9)}":{at}' for at in range(_ROOM // 17))
    field = rng.choice(("metadata", "chat_template_kwargs", "logit_bias", "unknown_field"))
    return rng.choice(((COMPLETIONS, f"{{{members}}}"), _either(rng, field, f"{{{members}}}")))


def huge_numbers(rng: random.Random) -> Body:
    size = _size(rng)
    digits = str(rng.randrange(1, 10)) * size
    number = rng.choice((digits, f"0.{digits}", f"-{digits}", f"1e{digits}", f"{digits}e-{size}"))
    field = rng.choice(
        ["n", "seed", "temperature", "max_tokens", "top_p", "priority", "logprobs", "unknown_field"]
    )
    return COMPLETIONS, f'{{"prompt":"x","{field}":{number[:_ROOM]}}}'


def many_numbers(rng: random.Random) -> Body:
    unit = rng.choice(("1e308", "0.1234567890123456789", "123456789012345678901", "5e-324"))
    field = rng.choice(("prompt", "chat_template_kwargs", "metadata", "unknown_field"))
    value = _list(unit, _ROOM - 16)
    return _either(rng, field, f'{{"a":{value}}}' if field == "chat_template_kwargs" else value)


# For the tokenizer: runs and mixtures where merges or cuts are many.
TEXTS = (
    "a", "A", " ", "\n", "\t", "  \n", "é", "e\u0301", "你", "日本語", "🙂", "👩‍👩‍👧‍👦",
    "\u200b", "\u202e", "0", "1234567890", "!", "-", "=", "ab", "the ", " the",
    "aA1 ", "<|im_start|>", "<|im_end|", "<|", "\u00a0", "\ufffd", "\U0010ffff",
    "\u0000", "\\", '"', "'s", "ﷺ", "كَ", "ก็", "xyzzy ", "//", "a\n", "Ā",
)  # fmt: skip


def one_text(rng: random.Random) -> Body:
    text = _text(rng.choice(TEXTS), _ROOM)
    if rng.random() < 0.5:
        return _completion("prompt", text)
    return _chat("messages", f'[{{"role":"user","content":{text}}}]')


def mixed_text(rng: random.Random) -> Body:
    parts: list[str] = []
    room = _ROOM - 64
    while room > 0:
        part = rng.choice(TEXTS) * rng.randrange(1, 40)
        parts.append(part)
        room -= len(json.dumps(part, ensure_ascii=False).encode())
    return _completion("prompt", json.dumps("".join(parts[:-1]), ensure_ascii=False))


def random_text(rng: random.Random) -> Body:
    ranges = ((0x20, 0x7E), (0x80, 0x2FF), (0x300, 0x36F), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF))
    first, last = rng.choice(ranges)
    width = len(chr(last).encode())
    text = "".join(chr(rng.randint(first, last)) for _ in range(_ROOM // width // 2))
    return _completion("prompt", json.dumps(text, ensure_ascii=False))


def words_without_spaces(rng: random.Random) -> Body:
    """One word for the cutting rule, nothing repeats: the longest merge there is."""
    letters = rng.choice(
        ("abcdefghijklmnopqrstuvwxyz", "ACGT", "aeiou", "абвгдежз", "的一是不了人我")
    )
    text = "".join(rng.choices(letters, k=_ROOM // len(letters[0].encode())))
    return _completion("prompt", json.dumps(text, ensure_ascii=False))


def escapes(rng: random.Random) -> Body:
    unit = rng.choice(("\\u0000", "\\ud83d\\ude42", "\\ud800", "\\n", "\\/", "\\u0041", "\\x"))
    return _completion("prompt", f'"{unit * (_ROOM // len(unit))}"')


def many_prompts(rng: random.Random) -> Body:
    unit = rng.choice(('"a"', "[1]", '""', '"a b"', _text("word ", 400)))
    count = min(rng.choice((1024, 1025, 20)), _ROOM // (len(unit) + 1))
    more = rng.choice(("", ',"n":8', ',"echo":true,"logprobs":5', ',"best_of":20'))
    return _completion("prompt", "[" + ",".join([unit] * count) + "]", more)


def many_choices(rng: random.Random) -> Body:
    prompt = _text(rng.choice(("word ", "a", "é")), rng.choice((10, 8_000, 30_000)))
    more = rng.choice((',"echo":true', "", ',"logprobs":20', ',"return_token_ids":true'))
    stream = rng.choice(("", ',"stream":true'))
    return _completion("prompt", prompt, f',"n":128{more}{stream}')


def prompt_logprobs(rng: random.Random) -> Body:
    """Twenty candidates for every token of the prompt, for every choice of every prompt."""
    prompt = _text(rng.choice(("word ", "the ", "a b ")), rng.choice((400, 20_000, 36_000)))
    prompts = "[" + ",".join([prompt] * min(rng.choice((1, 1, 30)), _ROOM // len(prompt))) + "]"
    asked = rng.choice((',"prompt_logprobs":20', ',"echo":true,"logprobs":20'))
    stream = rng.choice(("", ',"stream":true'))
    return _completion("prompt", prompts, f'{asked},"n":{rng.choice((1, 4, 128))}{stream}')


def logprobs_at_the_bound(rng: random.Random) -> Body:
    """As many log probabilities of prompts as one answer may have."""
    n = rng.choice((1, 4, 128))
    ids = "[" + ",".join(["1"] * min((1 << 18) // (n * 21), 8_000)) + "]"
    stream = rng.choice(("", ',"stream":true'))
    return _completion("prompt", ids, f',"prompt_logprobs":20,"n":{n}{stream}')


def many_messages(rng: random.Random) -> Body:
    unit = rng.choice(
        (
            '{"role":"user","content":""}',
            '{"role":"assistant","content":[]}',
            '{"role":"system","content":"a"}',
            '{"role":"user","content":[{"type":"text","text":"a"}]}',
            '{"role":"x"}',
            "{}",
        )
    )
    return _chat("messages", _list(unit, _ROOM))


def many_parts(rng: random.Random) -> Body:
    unit = rng.choice(
        ('{"type":"text","text":""}', '{"type":"image_url","image_url":"x"}', "{}", '""')
    )
    return _chat("messages", f'[{{"role":"user","content":{_list(unit, _ROOM - 32)}}}]')


def tool_calls(rng: random.Random) -> Body:
    depth = rng.choice((100, 127, 129, 5000))
    arguments = json.dumps("[" * depth + "]" * depth)
    call = f'{{"id":"1","type":"function","function":{{"name":"f","arguments":{arguments}}}}}'
    calls = _list(call, _ROOM - 64)
    return _chat("messages", f'[{{"role":"assistant","tool_calls":{calls}}}]')


def template_variables(rng: random.Random) -> Body:
    """Variables that shadow the template's own, or that it may walk through."""
    name = rng.choice(
        [
            "messages",
            "tools",
            "documents",
            "bos_token",
            "add_generation_prompt",
            "loop",
            "x",
            "range",
        ]
    )
    inner = rng.choice(
        ('{"role":"user","content":"x"}', "[1,2]", '"abc"', '{"role":[],"content":{}}')
    )
    return _chat("chat_template_kwargs", f'{{"{name}":{_list(inner, _ROOM - 64)}}}')


def template_sources(rng: random.Random) -> Body:
    bombs = (
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{{ 'a' * 1000000000 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
        "{% if x %}" * 5_000,
    )
    return _chat("chat_template", json.dumps(rng.choice(bombs)))


_TWICE = "{% set n.a = [n.a, n.a] %}"
# What a template of a request works on, as `v`: long, wide, deep, and lists that hold themselves.
TEMPLATE_VALUES = (
    "{% set v = 'x ' * 500000 %}",
    "{% set v = 'aB ' * 20000 %}",
    "{% set v = 'x\n' * 500000 %}",
    "{% set v = range(90000) | list %}",
    "{% set v = ('a ' * 20000).split() %}",
    "{% set v = range(90000) | batch(2) | list %}",
    "{% set t = 'x' * 1000000 %}{% set v = [t] * 20000 %}",
    "{% set v = [{'a': 1, 'b': 'x' * 1000}] * 5000 %}",
    "{% set n = namespace(a=[1]) %}{% for i in range(50000) %}{% set n.a = [n.a] %}{% endfor %}"
    "{% set v = n.a %}",
    "{% set n = namespace(a=[1]) %}" + _TWICE * 60 + "{% set v = n.a %}",
    "{% set n = namespace(a=[1]) %}" + _TWICE * 14 + "{% set v = n.a %}",
)
_FILTERS = (
    "upper", "lower", "title", "capitalize", "replace('x','yy')", "replace('','y')", "trim",
    "trim(v)", "escape", "string", "list", "first", "last", "min", "max", "sort",
    "sort(attribute='a')", "unique|list", "sum", "join", "join(v)", "split('x')", "lines",
    "batch(2)|list", "batch(1000000,'x')|list", "slice(3)|list", "slice(100000)|list",
    "reverse|list", "items", "dictsort", "tojson", "tojson(indent=64)", "tojson(indent=v)",
    "tojson(separators=[v,v])", "pprint", "indent(1000)", "urlencode", "select|list",
    "select('in',v)|list", "selectattr('b','in',v)|list", "map('upper')|list",
    "map('string')|list", "map('tojson')|list", "map('list')|list", "map('pprint')|list",
    "groupby('a')|list", "groupby(attribute=0)|list", "chain(v)|list", "zip(v)|list",
    "format(v,v)", "map('map','upper')|list", "select('eq',1)|list", "sum(start=v)",
)  # fmt: skip
_METHODS = (
    "upper()", "strip(v)", "lstrip(v)", "rstrip(v)", "replace('x',v)", "replace('','y')",
    "title()", "split()", "split('')", "splitlines()", "count('x')", "count(v)", "find(v)",
    "rfind('q')", "startswith(v)", "join(v)", "items()|list", "get(v)", "partition('q')",
    "rsplit('x')", "rsplit()", "removesuffix(v)", "isalnum()", "format(v)", "capitalize()",
)  # fmt: skip
_OPERATIONS = (
    "v+v", "v~v", "v*3", "v==(v|list)", "v<=(v|list)", "v in [[v]]", "1 in v", "v[::-1]", "v[::2]",
    "{v:1}[v]", "[v,v]|string", "[v,[v]]|sort", "[v,[v]]|unique|list", "[v,v]|tojson", "'%s'%v",
    "'{:>100000}'.format(v)", "'{0}{0}{0}'.format(v)", "debug(v)", "dict(a=v)", "namespace(a=v)",
    "strftime_now('%c'*20000)", "raise_exception(v)", "range(99999)|list", "v|zip(v)|map('join')",
    "''.join(v)", "v is eq(v|list)", "v is in [v]", "2**100000000", "v|map('map')|list|string",
)  # fmt: skip
TEMPLATE_WORK = (
    *(f"v|{name}" for name in _FILTERS),
    *(f"v.{name}" for name in _METHODS),
    *_OPERATIONS,
)


def template_work(rng: random.Random) -> Body:
    """Every filter, method and operation of templates on a large value, once or over and over."""
    work = rng.choice(TEMPLATE_WORK)
    once = f"{{% set y = {work} %}}"
    form = rng.choice((once, f"{{{{ {work} }}}}", "{% for i in range(99999) %}@{% endfor %}"))
    return _chat("chat_template", json.dumps(rng.choice(TEMPLATE_VALUES) + form.replace("@", once)))


def _schema(rng: random.Random) -> str:
    depth = rng.choice((50, 3_000))
    nested = '{"properties":{"a":' * depth + "{}" + "}}" * depth
    wide = {"type": "object", "properties": {f"p{at}": {"type": "string"} for at in range(1_500)}}
    refs = {
        "$defs": {f"d{at}": {"$ref": f"#/$defs/d{at + 1}"} for at in range(1_500)},
        "$ref": "#/$defs/d0",
    }
    doubling = {
        "$defs": {f"d{at}": {"anyOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(800)}
    }
    pattern = {"type": "string", "pattern": "(a*)*" * 10_000}
    enum = {"enum": [str(at) for at in range(6_000)]}
    counts = {"type": "array", "minItems": 10**9, "items": {"type": "string", "minLength": 10**9}}
    chosen = rng.choice((nested, wide, refs, doubling, pattern, enum, counts))
    return chosen if isinstance(chosen, str) else json.dumps(chosen, separators=(",", ":"))


def schemas(rng: random.Random) -> Body:
    schema = _schema(rng)
    named = f'{{"name":"a","schema":{schema}}}'
    field, value = rng.choice(
        (
            ("response_format", f'{{"type":"json_schema","json_schema":{named}}}'),
            ("structured_outputs", f'{{"json":{schema}}}'),
            ("structured_outputs", f'{{"regex":{json.dumps("(a|b)*" * 8_000)}}}'),
            ("tools", f'[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]'),
        )
    )  # fmt: skip
    return _chat(field, value)


def tokenize(rng: random.Random) -> Body:
    text = _text(rng.choice(TEXTS), _ROOM)
    more = rng.choice(("", ',"return_token_strs":true', ',"add_special_tokens":false'))
    return "/tokenize", f'{{"prompt":{text}{more}}}'


def detokenize(rng: random.Random) -> Body:
    token = rng.choice((str(rng.randrange(49152)), "1", "-1", "99999999999", "1.5"))
    return "/detokenize", f'{{"tokens":{_list(token, _ROOM)}}}'


def rendered(rng: random.Random) -> Body:
    path, body = rng.choice((one_text, many_prompts, many_messages, bad_words))(rng)
    return f"{path}/render", body


def broken_text(rng: random.Random) -> Body:
    """Bytes that are no UTF-8, written as such by `encoded`."""
    return _completion(
        "prompt", '"' + rng.choice(("\udcff", "\udcc3(", "\udced\udca0\udc80")) * 9_000 + '"'
    )


KINDS: tuple[Callable[[random.Random], Body], ...] = (
    deep_arrays, deep_objects, unclosed, wide_values, stop_strings, bad_words, long_stop_strings,
    logit_bias, token_lists, duplicate_keys, many_members, huge_numbers, many_numbers, one_text,
    mixed_text, random_text, words_without_spaces, escapes, many_prompts, many_choices,
    prompt_logprobs, logprobs_at_the_bound, many_messages, many_parts, tool_calls,
    template_variables, template_sources, template_work, schemas, tokenize, detokenize, rendered,
    broken_text,
)  # fmt: skip


def bodies(
    seed: int, count: int, kinds: Sequence[Callable[[random.Random], Body]] = KINDS
) -> Iterator[tuple[str, str, bytes]]:
    """(kind, path, body) for `count` bodies of these kinds, none above LARGEST bytes."""
    rng = random.Random(seed)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        path, text = kind(rng)
        while len(body := text.encode("utf-8", "surrogateescape")) > LARGEST:
            path, text = kind(rng)
        yield kind.__name__, path, body
