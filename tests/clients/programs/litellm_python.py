# SPDX-License-Identifier: Apache-2.0
"""Every scenario with `litellm`; see `tests/clients/test_clients.py`."""

import asyncio
import json
import sys

import litellm

URL, MODEL = sys.argv[1:]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
SAMPLING = {
    "model": f"openai/{MODEL}",
    "api_base": f"{URL}/v1",
    "api_key": "unused",
    "messages": QUESTION,
    "temperature": 0,
    "max_tokens": 16,
    "timeout": 300,
    "max_retries": 0,
}
litellm.suppress_debug_info = True


def tell(scenario: str, **found: object) -> None:
    print(json.dumps({"scenario": scenario, **found}), flush=True)


whole = litellm.completion(**SAMPLING)
tell(
    "chat",
    text=whole.choices[0].message.content,
    finish=whole.choices[0].finish_reason,
    tokens=whole.usage.completion_tokens,
)

text, finish, tokens = "", None, None
for chunk in litellm.completion(**SAMPLING, stream=True, stream_options={"include_usage": True}):
    for choice in chunk.choices:
        text += choice.delta.content or ""
        finish = choice.finish_reason or finish
    usage = getattr(chunk, "usage", None)
    tokens = usage.completion_tokens if usage else tokens
tell("stream", text=text, finish=finish, tokens=tokens)

answer = litellm.completion(**SAMPLING, logprobs=True, top_logprobs=2)
rows = answer.choices[0].logprobs.content
tell(
    "logprobs",
    text="".join(row.token for row in rows),
    values=[row.logprob for row in rows],
    widths=[len(row.top_logprobs) for row in rows],
)

answer = litellm.completion(**SAMPLING, n=2)
tell("n", texts=[choice.message.content for choice in answer.choices])

try:
    litellm.completion(**SAMPLING | {"temperature": -1})
except litellm.BadRequestError as error:
    tell("error", status=error.status_code, message=str(error))


async def cancel() -> None:
    """A stream has no `close` here: the task that reads it is cancelled."""
    begun = asyncio.Event()

    async def read() -> None:
        stream = await litellm.acompletion(
            **SAMPLING | {"max_tokens": 4000}, stream=True, extra_body={"ignore_eos": True}
        )
        try:
            async for _ in stream:
                begun.set()
        finally:
            await stream.completion_stream.close()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    tell("cancel")
    await asyncio.to_thread(sys.stdin.read)  # the process lives on


asyncio.run(cancel())
