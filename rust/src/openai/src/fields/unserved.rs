// SPDX-License-Identifier: Apache-2.0

//! Known and not served: the values that ask for nothing pass, the others are refused with the reason.

use super::rule::Neutral::{Literals, Null, TypeText};
use super::rule::{Field, Neutral, Routes as R, Rule::Refused, row};

const OFF: Neutral = Literals(&["false"]);
const TOOLS: &str = "tool calls are not served yet";
const REASONING: &str = "thoughts are not told from answers yet";
const STRUCTURED: &str = "structured output is not served yet";
const MEDIA: &str = "only text goes in and comes out";

/// Known and not served: the values that ask for nothing pass, the others are refused with the reason.
pub(super) static FIELDS: &[Field] = &[
    row("audio", R::CHAT, "Audio output.", Refused(Null, MEDIA)),
    row(
        "early_stopping",
        R::BOTH,
        "Beam search.",
        Refused(OFF, "beam search is not served"),
    ),
    row(
        "features",
        R::GENERATE,
        "Multimodal input.",
        Refused(Null, MEDIA),
    ),
    row(
        "function_call",
        R::CHAT,
        "Function calls, the older form.",
        Refused(Literals(&["\"none\"", "\"auto\""]), TOOLS),
    ),
    row(
        "functions",
        R::CHAT,
        "Function definitions, the older form.",
        Refused(Literals(&["[]"]), TOOLS),
    ),
    row(
        "guided_choice",
        R::BOTH,
        "Structured output, the older form.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "guided_decoding_backend",
        R::BOTH,
        "Structured output, the older form.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "guided_grammar",
        R::BOTH,
        "Structured output, the older form.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "guided_json",
        R::BOTH,
        "Structured output, the older form.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "guided_regex",
        R::BOTH,
        "Structured output, the older form.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "guided_whitespace_pattern",
        R::BOTH,
        "Structured output, the older form.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "include_reasoning",
        R::CHAT,
        "The answer carries what the model thought.",
        Refused(Literals(&["true"]), REASONING),
    ),
    row(
        "kv_transfer_params",
        R::REQUEST,
        "Transfer of KV-cache blocks between engines.",
        Refused(Literals(&["{}"]), "the engine has no KV connector"),
    ),
    row(
        "length_penalty",
        R::BOTH,
        "Beam search.",
        Refused(Literals(&["1", "1.0"]), "beam search is not served"),
    ),
    row(
        "media_io_kwargs",
        R::CHAT,
        "Multimodal input.",
        Refused(Literals(&["{}"]), MEDIA),
    ),
    row(
        "mm_processor_kwargs",
        R::BOTH,
        "Multimodal input.",
        Refused(Literals(&["{}"]), MEDIA),
    ),
    row(
        "modalities",
        R::CHAT,
        "What the answer consists of.",
        Refused(Literals(&["[\"text\"]"]), MEDIA),
    ),
    row(
        "prediction",
        R::CHAT,
        "Predicted output.",
        Refused(Null, "predicted outputs are not served"),
    ),
    row(
        "prompt_embeds",
        R::COMPLETIONS,
        "The prompt as embeddings.",
        Refused(Null, "prompts are text or token ids"),
    ),
    row(
        "reasoning",
        R::CHAT,
        "Options of reasoning models.",
        Refused(Null, REASONING),
    ),
    row(
        "reasoning_effort",
        R::CHAT,
        "How much a reasoning model thinks.",
        Refused(Null, REASONING),
    ),
    row(
        "response_format",
        R::BOTH,
        "The form of the answer.",
        Refused(TypeText, STRUCTURED),
    ),
    row(
        "service_tier",
        R::CHAT,
        "The class of service.",
        Refused(Literals(&["\"auto\"", "\"default\""]), "there is one tier"),
    ),
    row(
        "spaces_between_special_tokens",
        R::SAMPLED,
        "Spaces between special tokens.",
        Refused(Literals(&["true"]), "the tokenizer decides about spaces"),
    ),
    row(
        "store",
        R::CHAT,
        "Keeping the answer on the server.",
        Refused(OFF, "answers are not stored"),
    ),
    row(
        "structured_outputs",
        R::SAMPLED,
        "A grammar for the answer.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "suffix",
        R::COMPLETIONS,
        "Text after the insertion.",
        Refused(Literals(&["\"\""]), "the model has no infill template"),
    ),
    row(
        "tool_choice",
        R::CHAT,
        "Which tool is called.",
        Refused(Literals(&["\"none\"", "\"auto\""]), TOOLS),
    ),
    row(
        "tools",
        R::CHAT,
        "Tool definitions.",
        Refused(Literals(&["[]"]), TOOLS),
    ),
    row(
        "use_beam_search",
        R::BOTH,
        "Beam search.",
        Refused(OFF, "beam search is not served"),
    ),
    row(
        "verbosity",
        R::CHAT,
        "How much is said.",
        Refused(Null, "the model has no such setting"),
    ),
    row(
        "vllm_xargs",
        R::BOTH,
        "Arguments of plug-ins.",
        Refused(Literals(&["{}"]), "the engine has no plug-ins"),
    ),
    row(
        "web_search_options",
        R::CHAT,
        "Web search.",
        Refused(Null, "there is no web search"),
    ),
];
