# SPDX-License-Identifier: Apache-2.0
"""Offline use: a model in this process, prompts in, texts out.

    from vllm import LLM, SamplingParams
    llm = LLM("SmolLM2-135M-Instruct")
    outputs = llm.generate("The capital of France is", SamplingParams(temperature=0))
    print(outputs[0].outputs[0].text)

Owns the way from text to engine requests and back. Must not know HTTP or sockets.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypedDict

import numpy as np

from vllm.config.engine import EngineConfig
from vllm.config.model_source import resolve
from vllm.engine.core import EngineCore
from vllm.errors import RequestError, ValidationError
from vllm.protocol.messages import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.sampling.params import SamplingParams
from vllm.text.chat_template import ChatTemplate
from vllm.text.detokenize import Detokenizer, StopMatcher
from vllm.text.model_files import open_model_files
from vllm.text.tokenizer import Tokenizer, load_tokenizer


class TokensPrompt(TypedDict):
    """A prompt that is token ids already."""

    prompt_token_ids: list[int]


Prompt = str | TokensPrompt
Message = Mapping[str, Any]


@dataclass(frozen=True)
class Logprob:
    """Of one token at one position; `rank` is None where it was not asked for."""

    logprob: float
    rank: int | None
    decoded_token: str


PositionLogprobs = dict[int, Logprob]
"""Token id to log probability at one position; the token that is there comes first."""


@dataclass
class CompletionOutput:
    """One continuation. `finish_reason` is "stop" or "length"; `stop_reason` the stop string or
    stop token, None at the end of the sequence.
    """

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list[PositionLogprobs] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    """A prompt and its `n` continuations. The first entry of `prompt_logprobs` is None: nothing
    precedes the first token.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    prompt_logprobs: list[PositionLogprobs | None] | None = None
    finished: bool = False


class LLM:
    """A loaded model.

    `model` is whatever `vllm serve` takes; keyword arguments are fields of `EngineConfig`. Raises
    `vllm.errors.ModelError` when the model cannot be loaded.
    """

    def __init__(self, model: str, **engine: Any) -> None:
        source = resolve(model, load_format=engine.get("load_format", "auto"))
        self.engine = EngineCore(EngineConfig(model=str(source.path), **engine))
        self.files = open_model_files(source.path)
        self.tokenizer = load_tokenizer(self.files)
        self._ids = count()
        template = self.files.chat_template
        self._template = (
            None if template is None else ChatTemplate(template, self.files.special_tokens)
        )

    def get_tokenizer(self) -> Tokenizer:
        return self.tokenizer

    def get_default_sampling_params(self) -> SamplingParams:
        """What the model's author recommends, else the defaults."""
        values: dict[str, Any] = dict(self.files.sampling)
        if "max_new_tokens" in values:
            values["max_tokens"] = values.pop("max_new_tokens")
        return SamplingParams(**values)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """Continue each prompt; one `SamplingParams` for all or one each. Results are in order.

        Raises `vllm.errors.ValidationError` (a ValueError) for a prompt or parameter that cannot
        be used; nothing is generated then.
        """
        each = [prompts] if isinstance(prompts, str | dict) else list(prompts)
        params = self._params_for(len(each), sampling_params)
        jobs = [self._job(prompt, own) for prompt, own in zip(each, params, strict=True)]
        self._submit(jobs)
        self._run({choice.request_id: choice for job in jobs for choice in job.choices})
        return [job.output for job in jobs]

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[RequestOutput]:
        """Answer one conversation (a list of messages) or several (a list of such lists)."""
        template = self._template
        if chat_template is not None:
            template = ChatTemplate(chat_template, self.files.special_tokens)
        if template is None:
            raise ValidationError("the model has no chat template; pass chat_template")
        one = bool(messages) and isinstance(messages[0], Mapping)
        conversations: Sequence[Any] = [messages] if one else messages
        prompts: list[Prompt] = []
        for conversation in conversations:
            text = template.render(
                conversation,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                variables=chat_template_kwargs,
            )
            ids = self.tokenizer.encode(text, add_special_tokens=False)
            prompts.append({"prompt_token_ids": ids})
        return self.generate(prompts, sampling_params)

    def _params_for(
        self, number: int, given: SamplingParams | Sequence[SamplingParams] | None
    ) -> list[SamplingParams]:
        if given is None:
            given = self.get_default_sampling_params()
        params = [given] * number if isinstance(given, SamplingParams) else list(given)
        if len(params) != number:
            raise ValidationError(f"{number} prompts, but {len(params)} sampling parameters")
        return params

    def _job(self, prompt: Prompt, params: SamplingParams) -> _Job:
        text = prompt if isinstance(prompt, str) else None
        ids = (
            self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt["prompt_token_ids"]
        )
        name = str(next(self._ids))
        output = RequestOutput(name, text, ids, [])
        job = _Job(output, [])
        for index in range(params.n):
            output.outputs.append(CompletionOutput(index))
            own = self._for_engine(params, index)
            job.choices.append(_Choice(f"{name}-{index}", index, output, own, self.tokenizer))
        return job

    def _for_engine(self, params: SamplingParams, index: int) -> SamplingParams:
        """The parameters of one choice, with what an engine needs a frontend to fill in."""
        own = copy.deepcopy(params)
        eos = self.files.eos_token_ids
        if eos and not own.ignore_eos:
            own._eos_token_id = eos[0]
            own.stop_token_ids = [*(own.stop_token_ids or ()), *eos[1:]]
        own._all_stop_token_ids = {*(own.stop_token_ids or ()), *eos}
        if own.bad_words:
            own._bad_words_token_ids = self._bad_words(own.bad_words)
        if own.seed is not None:
            own.seed += index
        return own

    def _bad_words(self, words: Sequence[str]) -> list[list[int]]:
        """Each word at the beginning of a text and after a space."""
        encoded = [
            self.tokenizer.encode(form, add_special_tokens=False)
            for word in words
            for form in (word, " " + word.lstrip())
        ]
        return [ids for number, ids in enumerate(encoded) if ids not in encoded[:number]]

    def _submit(self, jobs: Sequence[_Job]) -> None:
        """All or none: a request that is refused takes back the ones before it."""
        submitted: list[str] = []
        try:
            for job in jobs:
                for choice in job.choices:
                    self.engine.add_request(choice.request(job.output.prompt_token_ids))
                    submitted.append(choice.request_id)
        except RequestError as error:
            self.engine.abort_requests(submitted)
            raise ValidationError(error.message) from None

    def _run(self, choices: dict[str, _Choice]) -> None:
        try:
            while self.engine.has_work():
                for output in self.engine.step():
                    choice = choices[output.request_id]
                    if choice.take(output) and not output.finished:
                        self.engine.abort_requests([output.request_id])
        finally:
            self.engine.abort_requests(choices)


@dataclass
class _Job:
    output: RequestOutput
    choices: list[_Choice]


class _Choice:
    """One of the `n` continuations while it is generated: tokens in, text and logprobs kept."""

    def __init__(
        self,
        request_id: str,
        index: int,
        job: RequestOutput,
        params: SamplingParams,
        tokenizer: Tokenizer,
    ) -> None:
        self.request_id = request_id
        self._job, self._params, self._tokenizer = job, params, tokenizer
        self._output = job.outputs[index]
        stops = params.stop if isinstance(params.stop, list) else []
        self._text = Detokenizer(tokenizer, job.prompt_token_ids, params.skip_special_tokens)
        self._stop = StopMatcher(stops, params.include_stop_str_in_output)

    def request(self, prompt: list[int]) -> EngineCoreRequest:
        return EngineCoreRequest(
            request_id=self.request_id,
            prompt_token_ids=prompt,
            mm_features=None,
            sampling_params=self._params,
            pooling_params=None,
            arrival_time=0.0,
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )

    def take(self, output: EngineCoreOutput) -> bool:
        """Add what one step brought; True when the choice is complete."""
        own = self._output
        own.token_ids += output.new_token_ids
        self._take_logprobs(output)
        stop = self._take_text(output)
        if stop is not None:
            own.finish_reason, own.stop_reason = "stop", stop
        elif output.finish_reason is not None:
            own.text += self._text.finish() + self._stop.finish()
            own.finish_reason = FinishReason(output.finish_reason).name.lower()
            own.stop_reason = output.stop_reason
        self._job.finished = all(one.finish_reason for one in self._job.outputs)
        return own.finish_reason is not None

    def _take_text(self, output: EngineCoreOutput) -> str | None:
        """Detokenize; the stop string that was completed, if any. A stop token is not text."""
        ids = output.new_token_ids
        if not self._params.detokenize:
            return None
        if (
            output.finish_reason == FinishReason.STOP
            and not self._params.include_stop_str_in_output
        ):
            ids = ids[:-1]
        may_stop = len(self._output.token_ids) >= self._params.min_tokens
        text, stop = self._stop.push(self._text.push(ids), may_stop)
        self._output.text += text
        return stop

    def _take_logprobs(self, output: EngineCoreOutput) -> None:
        own = self._output
        if (lists := output.new_logprobs) is not None:
            positions = self._positions(lists.token_ids, lists.logprobs, lists.sampled_token_ranks)
            own.logprobs = (own.logprobs or []) + positions
            sampled = float(lists.logprobs[:, 0].sum())
            own.cumulative_logprob = (own.cumulative_logprob or 0.0) + sampled
        if (tensors := output.new_prompt_logprobs_tensors) is not None:
            arrays = (tensors.token_ids, tensors.logprobs, tensors.selected_token_ranks)
            positions = self._positions(*(tensor.numpy() for tensor in arrays))
            self._job.prompt_logprobs = [None, *positions]

    def _positions(
        self, ids: np.ndarray, logprobs: np.ndarray, ranks: np.ndarray
    ) -> list[PositionLogprobs]:
        given = bool(self._params.logprob_token_ids)
        rows = zip(ids.tolist(), logprobs.tolist(), ranks.tolist(), strict=True)
        positions = []
        for row_ids, row_logprobs, rank in rows:
            entries: PositionLogprobs = {}
            for column, (token, value) in enumerate(zip(row_ids, row_logprobs, strict=True)):
                place = rank if column == 0 else None if given else column
                text = self._tokenizer.token_text(token)
                entries.setdefault(token, Logprob(value, place, text))
            positions.append(entries)
        return positions
