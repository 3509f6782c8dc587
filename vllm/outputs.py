# SPDX-License-Identifier: Apache-2.0
"""What offline use answers: texts with their tokens, embeddings, scores.

Owns these values alone. Must not know how they come about.
"""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """One continuation. `finish_reason` is "stop", "length" or "repetition"; `stop_reason` the stop
    string or stop token, None at the end of the sequence.
    """

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list[PositionLogprobs] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def finished(self) -> bool:
        return self.finish_reason is not None


@dataclass
class RequestOutput:
    """A prompt and its `n` continuations. The first entry of `prompt_logprobs` is None: nothing
    precedes the first token. `num_cached_tokens` of the prompt were computed for an earlier one.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    prompt_logprobs: list[PositionLogprobs | None] | None = None
    finished: bool = False
    num_cached_tokens: int | None = None


@dataclass(frozen=True)
class EmbeddingOutput:
    """`hidden_size` numbers."""

    embedding: list[float]

    @property
    def hidden_size(self) -> int:
        return len(self.embedding)


@dataclass(frozen=True)
class EmbeddingRequestOutput:
    """The embedding of one prompt."""

    request_id: str
    outputs: EmbeddingOutput
    prompt_token_ids: list[int]
    finished: bool = True


@dataclass(frozen=True)
class ScoringOutput:
    """The cosine of two embeddings, -1 to 1."""

    score: float


@dataclass(frozen=True)
class ScoringRequestOutput:
    """The score of one pair; the ids are those of both texts, one after the other."""

    request_id: str
    outputs: ScoringOutput
    prompt_token_ids: list[int]
    finished: bool = True
