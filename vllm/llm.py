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
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import count
from typing import Any, TypeVar

import numpy as np

from vllm.config.engine import EngineConfig
from vllm.config.model_source import resolve
from vllm.engine.core import EngineCore
from vllm.errors import RequestError, ValidationError
from vllm.inputs import ParsedPrompt, Prompt, TextPrompt, TokensPrompt, parse_prompts
from vllm.logging import Progress
from vllm.models.encoder_config import is_encoder
from vllm.outputs import (
    CompletionOutput,
    EmbeddingOutput,
    EmbeddingRequestOutput,
    Logprob,
    PositionLogprobs,
    RequestOutput,
    ScoringOutput,
    ScoringRequestOutput,
)
from vllm.protocol.messages import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.sampling.params import SamplingParams
from vllm.text.chat_template import ChatTemplate
from vllm.text.detokenize import Detokenizer, StopMatcher
from vllm.text.model_files import open_model_files
from vllm.text.tokenizer import Tokenizer, load_tokenizer
from vllm.worker.encoder_runner import EncoderRunner

__all__ = ["LLM", "CompletionOutput", "Logprob", "RequestOutput", "TextPrompt", "TokensPrompt"]


Message = Mapping[str, Any]
Result = TypeVar("Result")


class LLM:
    """A loaded model: one that generates, or an encoder that embeds (`BertModel`).

    `model` is whatever `vllm serve` takes; keyword arguments are fields of `EngineConfig`, and
    `revision` of a model on the hub. Raises `vllm.errors.ModelError` when the model cannot be
    loaded and TypeError for an argument that is not known.
    """

    def __init__(self, model: str, *, revision: str | None = None, **engine: Any) -> None:
        _check_arguments(engine)
        load_format = engine.get("load_format", "auto")
        source = resolve(model, revision=revision, load_format=load_format)
        config = EngineConfig(model=str(source.path), **engine)
        embeds = is_encoder(source.path)
        self._encoder = EncoderRunner(config) if embeds else None
        self._engine = None if embeds else EngineCore(config)
        self.files = open_model_files(source.path)
        self.tokenizer = load_tokenizer(self.files)
        self._ids = count()
        template = self.files.chat_template
        self._template = (
            None if template is None else ChatTemplate(template, self.files.special_tokens)
        )

    @property
    def engine(self) -> EngineCore:
        """What generates. Raises `ValidationError` for an encoder."""
        if self._engine is None:
            raise ValidationError("this model is an encoder: it embeds and does not generate")
        return self._engine

    @property
    def encoder(self) -> EncoderRunner:
        """What embeds. Raises `ValidationError` for a model that generates."""
        if self._encoder is None:
            raise ValidationError(
                "this model generates; to embed, an encoder is needed (architecture BertModel)"
            )
        return self._encoder

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
        *,
        use_tqdm: bool = True,
        priority: Sequence[int] | None = None,
    ) -> list[RequestOutput]:
        """Continue each prompt; one `SamplingParams` for all or one each. Results are in order.

        `use_tqdm` shows a progress bar where standard error is a terminal; `priority` has a number
        for each prompt, lower ones run first. Raises `vllm.errors.ValidationError` (a ValueError)
        for a prompt or parameter that cannot be used; nothing is generated then.
        """
        _ = self.engine
        each = parse_prompts(prompts)
        params = self._params_for(len(each), sampling_params)
        priorities = [0] * len(each) if priority is None else list(priority)
        if len(priorities) != len(each):
            raise ValidationError(f"{len(each)} prompts, but {len(priorities)} priorities")
        jobs = [self._job(*one) for one in zip(each, params, priorities, strict=True)]
        self._submit(jobs)
        self._run({choice.request_id: choice for job in jobs for choice in job.choices}, use_tqdm)
        return [job.output for job in jobs]

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: bool = True,
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
        return self.generate(prompts, sampling_params, use_tqdm=use_tqdm)

    def embed(
        self, prompts: Prompt | Sequence[Prompt], *, use_tqdm: bool = True
    ) -> list[EmbeddingRequestOutput]:
        """The embedding of each prompt, in order, pooled as the model's author says.

        Raises `vllm.errors.ValidationError` for a model that is no encoder, and for a prompt that
        cannot be used.
        """
        encoder = self.encoder
        texts = [self._encode(prompt) for prompt in parse_prompts(prompts)]
        for number, ids in enumerate(texts):
            _check_text(ids, number, encoder)
        vectors = _with_bar("embedding", use_tqdm, lambda tell: encoder.embed(texts, tell))
        return [
            EmbeddingRequestOutput(str(next(self._ids)), EmbeddingOutput(vector), ids)
            for vector, ids in zip(vectors, texts, strict=True)
        ]

    def score(
        self,
        data_1: Prompt | Sequence[Prompt],
        data_2: Prompt | Sequence[Prompt],
        /,
        *,
        use_tqdm: bool = True,
    ) -> list[ScoringRequestOutput]:
        """The cosine of the embeddings of each pair; one text before all others, or as many."""
        first, second = parse_prompts(data_1), parse_prompts(data_2)
        if len(first) not in (1, len(second)):
            raise ValidationError(
                f"data_1 has {len(first)} texts and data_2 {len(second)}; 1 or as many are expected"
            )
        plain = [_as_object(prompt) for prompt in (*first, *second)]
        embedded = self.embed(plain, use_tqdm=use_tqdm)
        firsts, seconds = embedded[: len(first)], embedded[len(first) :]
        firsts = firsts * (len(seconds) if len(firsts) == 1 else 1)
        return [
            ScoringRequestOutput(
                f"{a.request_id}-{b.request_id}",
                ScoringOutput(_cosine(a.outputs.embedding, b.outputs.embedding)),
                a.prompt_token_ids + b.prompt_token_ids,
            )
            for a, b in zip(firsts, seconds, strict=True)
        ]

    def reset_prefix_cache(self) -> None:
        """Forget what earlier prompts computed."""
        self.engine.clear_cache(reset_running=False)

    def _encode(self, prompt: ParsedPrompt) -> list[int]:
        if prompt.token_ids is not None:
            return prompt.token_ids
        return self.tokenizer.encode(prompt.text or "")

    def _params_for(
        self, number: int, given: SamplingParams | Sequence[SamplingParams] | None
    ) -> list[SamplingParams]:
        if given is None:
            given = self.get_default_sampling_params()
        params = [given] * number if isinstance(given, SamplingParams) else list(given)
        if len(params) != number:
            raise ValidationError(f"{number} prompts, but {len(params)} sampling parameters")
        for one in params:
            _check_form(one)
        return params

    def _job(self, prompt: ParsedPrompt, params: SamplingParams, priority: int) -> _Job:
        name = str(next(self._ids))
        output = RequestOutput(name, prompt.text, self._encode(prompt), [])
        job = _Job(output, [], prompt.cache_salt, priority)
        for index in range(params.n):
            output.outputs.append(CompletionOutput(index))
            own = self._for_engine(params, index)
            job.choices.append(_Choice(f"{name}-{index}", index, output, own, self.tokenizer))
        return job

    def _for_engine(self, params: SamplingParams, index: int) -> SamplingParams:
        """The parameters of one choice, with what an engine needs a frontend to fill in."""
        own = copy.deepcopy(params)
        own.n = 1
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
                    self.engine.add_request(job.request(choice))
                    submitted.append(choice.request_id)
        except RequestError as error:
            self.engine.abort_requests(submitted)
            raise ValidationError(error.message) from None

    def _run(self, choices: dict[str, _Choice], show: bool) -> None:
        def steps(tell: Callable[[float], None]) -> None:
            done = 0
            while self.engine.has_work():
                done += sum(self._take(choices, output) for output in self.engine.step())
                tell(done / len(choices))

        try:
            _with_bar("generating", show, steps)
        finally:
            self.engine.abort_requests(choices)

    def _take(self, choices: dict[str, _Choice], output: EngineCoreOutput) -> bool:
        complete = choices[output.request_id].take(output)
        if complete and not output.finished:
            self.engine.abort_requests([output.request_id])
        return complete


def _check_form(params: SamplingParams) -> None:
    """Forms of a result that upstream has and this class does not, and what finds no text to stop
    at: frontends look for stop strings, so an engine has nothing against them.
    """
    if params.stop and not params.detokenize:
        raise ValidationError(
            "detokenize must be True where stop strings are given, got False", "detokenize"
        )
    if params.flat_logprobs:
        raise ValidationError("flat_logprobs is True; only False is supported", "flat_logprobs")
    if not params.spaces_between_special_tokens:
        raise ValidationError(
            "spaces_between_special_tokens is False; only True is supported: the tokenizer decides",
            "spaces_between_special_tokens",
        )


def _check_arguments(engine: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(EngineConfig) if field.name != "model"]
    for name in engine:
        if name not in known:
            raise TypeError(f"LLM: {name} is not supported; known are {', '.join(known)}, revision")


def _with_bar(label: str, show: bool, work: Callable[[Callable[[float], None]], Result]) -> Result:
    """`work` is given a function to tell its share done, 0 to 1."""
    if not show:
        return work(lambda _done: None)
    bar = Progress(label)
    try:
        return work(bar.update)
    finally:
        bar.close()


def _check_text(ids: Sequence[int], number: int, encoder: EncoderRunner) -> None:
    if not 1 <= len(ids) <= encoder.max_length:
        raise ValidationError(
            f"prompt {number} has {len(ids)} tokens; the model embeds 1 to {encoder.max_length}"
        )
    vocabulary = encoder.config.vocab_size
    for token in ids:
        if not 0 <= token < vocabulary:
            raise ValidationError(
                f"prompt {number}: token {token} is not in the vocabulary of {vocabulary}"
            )


def _as_object(prompt: ParsedPrompt) -> Prompt:
    if prompt.token_ids is not None:
        return {"prompt_token_ids": prompt.token_ids}
    return {"prompt": prompt.text or ""}


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    lengths = math.hypot(*a) * math.hypot(*b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


@dataclass
class _Job:
    output: RequestOutput
    choices: list[_Choice]
    cache_salt: str | None
    priority: int

    def request(self, choice: _Choice) -> EngineCoreRequest:
        return EngineCoreRequest(
            request_id=choice.request_id,
            prompt_token_ids=self.output.prompt_token_ids,
            mm_features=None,
            sampling_params=choice.params,
            pooling_params=None,
            arrival_time=0.0,
            lora_request=None,
            cache_salt=self.cache_salt,
            data_parallel_rank=None,
            priority=self.priority,
        )


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
        self._job, self.params, self._tokenizer = job, params, tokenizer
        self._output = job.outputs[index]
        stops = params.stop if isinstance(params.stop, list) else []
        self._text = Detokenizer(tokenizer, job.prompt_token_ids, params.skip_special_tokens)
        self._stop = StopMatcher(stops, params.include_stop_str_in_output)

    def take(self, output: EngineCoreOutput) -> bool:
        """Add what one step brought; True when the choice is complete."""
        own = self._output
        own.token_ids += output.new_token_ids
        if output.prefill_stats is not None and self._job.num_cached_tokens is None:
            self._job.num_cached_tokens = output.prefill_stats.num_cached_tokens
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
        if not self.params.detokenize:
            return None
        if output.finish_reason == FinishReason.STOP and not self.params.include_stop_str_in_output:
            ids = ids[:-1]
        may_stop = len(self._output.token_ids) >= self.params.min_tokens
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
        given = bool(self.params.logprob_token_ids)
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
