# SPDX-License-Identifier: Apache-2.0
"""Every scenario with the official `openai` package; see `tests/clients/test_clients.py`."""

import json
import sys

import openai

URL, MODEL = sys.argv[1:]
client = openai.OpenAI(base_url=f"{URL}/v1", api_key="unused", max_retries=0, timeout=300)
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
SAMPLING = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 16}


def tell(scenario: str, **found: object) -> None:
    print(json.dumps({"scenario": scenario, **found}), flush=True)


whole = client.chat.completions.create(**SAMPLING)
tell(
    "chat",
    text=whole.choices[0].message.content,
    finish=whole.choices[0].finish_reason,
    tokens=whole.usage.completion_tokens,
)

text, finish, tokens = "", None, None
for chunk in client.chat.completions.create(
    **SAMPLING, stream=True, stream_options={"include_usage": True}
):
    for choice in chunk.choices:
        text += choice.delta.content or ""
        finish = choice.finish_reason or finish
    tokens = chunk.usage.completion_tokens if chunk.usage else tokens
tell("stream", text=text, finish=finish, tokens=tokens)

answer = client.chat.completions.create(**SAMPLING, logprobs=True, top_logprobs=2)
rows = answer.choices[0].logprobs.content
tell(
    "logprobs",
    text="".join(row.token for row in rows),
    values=[row.logprob for row in rows],
    widths=[len(row.top_logprobs) for row in rows],
)

answer = client.chat.completions.create(**SAMPLING, n=2)
tell("n", texts=[choice.message.content for choice in answer.choices])

try:
    client.chat.completions.create(**SAMPLING | {"temperature": -1})
except openai.BadRequestError as error:
    tell("error", status=error.status_code, message=error.body["message"])

stream = client.chat.completions.create(
    **SAMPLING | {"max_tokens": 4000}, stream=True, extra_body={"ignore_eos": True}
)
next(iter(stream))
stream.close()
tell("cancel")
sys.stdin.read()  # the process lives on: its end is not what tells the server
