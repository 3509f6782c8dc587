# SPDX-License-Identifier: Apache-2.0
"""One function per route: the steps of a request by their names.

validate > render > encode > submit > detokenize > emit.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import Response, StreamingResponse

from vllm.api_server import answers, errors, sampling
from vllm.api_server.answers import Answer, Chunks, Deltas
from vllm.api_server.call import Call, State
from vllm.api_server.errors import bad_field
from vllm.api_server.generation import Choice, run_all
from vllm.api_server.logprobs import Namer
from vllm.api_server.model import Model
from vllm.api_server.requests import (
    ChatRequest,
    CompletionRequest,
    Request,
    read_chat,
    read_completion,
    read_detokenize,
    read_tokenize,
)
from vllm.protocol.messages import EngineCoreRequest
from vllm.text.chat_template import (
    ChatTemplate,
    ChatTemplateError,
    ChatTemplateFailure,
    ContinuationError,
)
from vllm.version import __version__, release_of


def json_response(value: Any, status: int = 200) -> Response:
    return Response(answers.to_json(value), status, media_type="application/json")


# --------------------------------------------------------------------------------- chat,
# completions


async def chat(call: Call) -> Response:
    """`POST /v1/chat/completions`."""
    request = read_chat(await call.body())
    call.state.check(request)
    model = call.state.model
    # In a thread: a long text must not hold up the streams of others.
    ids = _fit(model, request, await asyncio.to_thread(encode_chat, model, request), "messages")
    return await _answer(call, request, "chatcmpl-", [ids])


async def completions(call: Call) -> Response:
    """`POST /v1/completions`."""
    request = read_completion(await call.body())
    call.state.check(request)
    model = call.state.model
    encoded = await asyncio.to_thread(_encode_prompts, model, request)
    prompts = [_fit(model, request, ids, "prompt") for ids in encoded]
    return await _answer(call, request, "cmpl-", prompts)


async def _answer(call: Call, request: Request, prefix: str, prompts: list[list[int]]) -> Response:
    call.take_id(request.get("request_id"))
    answer = Answer(
        id=prefix + call.id,
        model=request.get("model") or call.state.model.name,
        request=request,
        namer=Namer(call.state.model.tokenizer, request),
        prompts=prompts,
        details=call.state.prompt_tokens_details,
    )
    deltas = _counted(call.state, answer, run_all(call.state.client, _work(call, answer)))
    if not request.stream:
        return json_response(await call.unless_gone(_whole(answer, deltas)))
    events = Chunks(answer).events(deltas)
    first = await call.unless_gone(anext(events))  # an error instead of it gets its own status
    return StreamingResponse(
        _chained(first, events, deltas),
        media_type="text/event-stream",
        headers={"cache-control": "no-cache"},
    )


async def _whole(answer: Answer, deltas: Deltas) -> dict[str, Any]:
    async with contextlib.aclosing(deltas):
        return await answers.whole(answer, deltas)


async def _chained(
    first: bytes, events: AsyncGenerator[bytes], deltas: Deltas
) -> AsyncGenerator[bytes]:
    """The events; however the stream ends, its choices do too."""
    try:
        yield first
        async for event in events:
            yield event
    finally:
        await deltas.aclose()


async def _counted(state: State, answer: Answer, deltas: Deltas) -> Deltas:
    """Pass deltas on and count them."""
    state.running += 1
    state.metrics.prompt_tokens += answer.prompt_tokens
    try:
        async with contextlib.aclosing(deltas):
            async for choice, delta in deltas:
                state.metrics.generation_tokens += len(delta.ids)
                if delta.ended is not None:
                    state.metrics.finished[delta.ended.reason] += 1
                yield choice, delta
    finally:
        state.running -= 1


def _work(call: Call, answer: Answer) -> list[tuple[Choice, EngineCoreRequest]]:
    """Every choice as an engine request of its own."""
    model, request = call.state.model, answer.request
    sampling.check_prompt_logprobs(request, answer.prompts)
    rank = _rank(call)
    unique = uuid.uuid4().hex[:8]
    work: list[tuple[Choice, EngineCoreRequest]] = []
    for prompt, ids in enumerate(answer.prompts):
        params = sampling.params_of(model, request, len(ids))
        for number in range(request.candidates):
            index = len(work)
            engine_request = EngineCoreRequest(
                request_id=f"{answer.id}-{index}-{unique}",
                prompt_token_ids=ids,
                mm_features=None,
                sampling_params=sampling.with_seed(params, request.get("seed"), number),
                pooling_params=None,
                arrival_time=time.time(),
                lora_request=None,
                cache_salt=request.get("cache_salt"),
                data_parallel_rank=rank,
                priority=request.get("priority", 0),
                external_req_id=answer.id,
                session_id=request.get("session_id"),
            )
            work.append((Choice(index, prompt, request, model.tokenizer, ids), engine_request))
    answer.choices = [choice for choice, _ in work]
    return work


def _rank(call: Call) -> int | None:
    value = call.http.headers.get("x-data-parallel-rank")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        raise bad_field(
            "X-data-parallel-rank",
            "The header X-data-parallel-rank must be a number from 0.",
        )
    return int(value)


# ------------------------------------------------------------------------------------------ prompts


def encode_chat(model: Model, request: ChatRequest) -> list[int]:
    """Render and encode a conversation. Raises ApiError."""
    if model.template is None:
        raise bad_field(
            "messages",
            "The model has no chat template: send the text to /v1/completions instead.",
        )
    try:
        text = _render(model.template, request)
    except ContinuationError as error:
        raise bad_field("continue_final_message", _sentence(str(error))) from None
    except ChatTemplateError as error:
        raise bad_field("messages", _sentence(str(error))) from None
    # The template writes special tokens itself.
    return model.tokenizer.encode(text, request.get("add_special_tokens", False))


def _render(template: ChatTemplate, request: ChatRequest) -> str:
    """The text of a conversation. An assistant message that only called tools has no content, which
    some templates ask for, and others cannot join with their own text.
    """

    def render(messages: list[dict[str, Any]]) -> str:
        return template.render(
            messages,
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=request.get("continue_final_message", False),
            variables=_variables(request),
        )

    try:
        return render(request.messages)
    except ChatTemplateFailure:
        if all(message["content"] is not None for message in request.messages):
            raise
    return render([{**m, "content": m["content"] or ""} for m in request.messages])


def _variables(request: ChatRequest) -> dict[str, Any]:
    documents = request.get("documents")
    own = {"documents": documents} if documents else {}
    return own | (request.get("chat_template_kwargs") or {})


def _encode_prompts(model: Model, request: CompletionRequest) -> list[list[int]]:
    special = request.get("add_special_tokens", True)
    return [
        model.tokenizer.encode(prompt, special) if isinstance(prompt, str) else prompt
        for prompt in request.prompts
    ]


def _sentence(text: str) -> str:
    """Upper case at the start, a full stop at the end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _fit(model: Model, request: Request, ids: list[int], name: str) -> list[int]:
    """Cut a prompt as asked and check that it leaves room for an answer."""
    keep = request.get("truncate_prompt_tokens")
    if keep is not None:
        keep = model.context - 1 if keep < 0 else keep
        ids = ids[max(0, len(ids) - keep) :]
    if not ids:
        raise bad_field(name, "The prompt has no tokens: send at least one.")
    if len(ids) >= model.context:
        raise errors.context_length(name, len(ids), model.context)
    sampling.check_vocabulary(model, name, ids)
    return ids


# ------------------------------------------------------------------------------------ tokens as
# such


async def tokenize(call: Call) -> Response:
    """`POST /tokenize`."""
    request = read_tokenize(await call.body())
    call.state.check_model(request.model)
    model = call.state.model
    if request.chat is not None:
        tokens = await asyncio.to_thread(encode_chat, model, request.chat)
    else:
        special = True if request.add_special_tokens is None else request.add_special_tokens
        tokens = await asyncio.to_thread(model.tokenizer.encode, request.text or "", special)
    shown = [model.tokenizer.token_text(n) for n in tokens] if request.return_token_strs else None
    return json_response(
        {
            "count": len(tokens),
            "max_model_len": model.context,
            "tokens": tokens,
            "token_strs": shown,
        }
    )


async def detokenize(call: Call) -> Response:
    """`POST /detokenize`."""
    request = read_detokenize(await call.body())
    call.state.check_model(request.model)
    model = call.state.model
    sampling.check_vocabulary(model, "tokens", request.tokens)
    return json_response({"prompt": model.tokenizer.decode(request.tokens)})


# --------------------------------------------------------------------------------------------
# server


def _card(state: State, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": state.started,
        "owned_by": "vllm",
        "root": state.model.root,
        "parent": None,
        "max_model_len": state.model.context,
    }


async def models(call: Call) -> Response:
    """`GET /v1/models`."""
    cards = [_card(call.state, name) for name in call.state.model.names]
    return json_response({"object": "list", "data": cards})


async def model(call: Call) -> Response:
    """`GET /v1/models/{id}`."""
    call.state.check_model(call.rest)
    return json_response(_card(call.state, call.rest))


async def live(call: Call) -> Response:
    """The process answers."""
    return Response()


async def ready(call: Call) -> Response:
    """At least one engine serves."""
    if not call.state.client.healthy:
        raise errors.no_engine()
    return Response()


async def version(call: Call) -> Response:
    """`GET /version`."""
    return json_response({"version": release_of(__version__)})


async def load(call: Call) -> Response:
    """`GET /load`: requests in all, and each engine."""
    stats = call.state.client.stats
    engines = []
    for index, failed in call.state.client.health.items():
        row: dict[str, Any] = {"index": index, "ready": failed is None}
        if (found := stats.get(index)) is not None:
            row |= {"running": found.num_running_reqs, "waiting": found.num_waiting_reqs}
            row["kv_cache_usage"] = found.kv_cache_usage
        engines.append(row)
    return json_response({"server_load": call.state.running, "engines": engines})


async def metrics(call: Call) -> Response:
    """`GET /metrics`."""
    text = call.state.metrics.text(call.state.client)
    return Response(text, media_type="text/plain; version=0.0.4")
