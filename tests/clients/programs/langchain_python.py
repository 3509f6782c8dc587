# SPDX-License-Identifier: Apache-2.0
"""Every scenario with `langchain-openai`; see `tests/clients/test_clients.py`."""

import json
import sys

import openai
from langchain_openai import ChatOpenAI

URL, MODEL = sys.argv[1:]
QUESTION = [("user", "What is the capital of France?")]


def model(**more: object) -> ChatOpenAI:
    given = {"temperature": 0, "max_tokens": 16, "max_retries": 0, "timeout": 300} | more
    return ChatOpenAI(base_url=f"{URL}/v1", api_key="unused", model=MODEL, **given)


def tell(scenario: str, **found: object) -> None:
    print(json.dumps({"scenario": scenario, **found}), flush=True)


whole = model().invoke(QUESTION)
tell(
    "chat",
    text=whole.content,
    finish=whole.response_metadata["finish_reason"],
    tokens=whole.usage_metadata["output_tokens"],
)

text, finish, tokens = "", None, None
for chunk in model(stream_usage=True).stream(QUESTION):
    text += chunk.content
    finish = chunk.response_metadata.get("finish_reason") or finish
    tokens = chunk.usage_metadata["output_tokens"] if chunk.usage_metadata else tokens
tell("stream", text=text, finish=finish, tokens=tokens)

rows = (
    model(logprobs=True, top_logprobs=2).invoke(QUESTION).response_metadata["logprobs"]["content"]
)
tell(
    "logprobs",
    text="".join(row["token"] for row in rows),
    values=[row["logprob"] for row in rows],
    widths=[len(row["top_logprobs"]) for row in rows],
)

generations = model(n=2).generate([model()._convert_input(QUESTION).to_messages()]).generations[0]
tell("n", texts=[generation.text for generation in generations])

try:
    model(temperature=-1).invoke(QUESTION)
except openai.BadRequestError as error:
    tell("error", status=error.status_code, message=error.body["message"])

stream = model(max_tokens=4000, extra_body={"ignore_eos": True}).stream(QUESTION)
next(stream)
stream.close()
tell("cancel")
sys.stdin.read()  # the process lives on: its end is not what tells the server
