// SPDX-License-Identifier: Apache-2.0

//! What the engines said of themselves when they registered, put together and checked.

use crate::error::ConnectError;
use crate::protocol::ReadyResponse;

/// Sizes of the engines together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Registration {
    /// Longest sequence in tokens: the smallest of all engines.
    pub max_model_len: u64,
    /// KV blocks of all engines.
    pub num_gpu_blocks: u64,
    /// Tokens per KV block.
    pub block_size: u64,
    /// Data type of activations.
    pub dtype: String,
    /// Release of the first engine.
    pub vllm_version: String,
    /// Running requests at most, over all engines.
    pub max_num_seqs: u64,
    /// Adapters can be loaded on every engine.
    pub supports_lora: bool,
    /// Sleep and wake up are available on every engine.
    pub enable_sleep_mode: bool,
    /// Each engine's own frame, by index.
    pub engines: Vec<(u32, ReadyResponse)>,
}

const DTYPES: [&str; 3] = ["float16", "bfloat16", "float32"];

impl Registration {
    /// Combines the frames of all engines, refusing what this frontend can't serve.
    pub(crate) fn combine(engines: Vec<(u32, ReadyResponse)>) -> Result<Self, ConnectError> {
        engines
            .iter()
            .try_for_each(|(index, frame)| check(*index, frame))?;
        let lora = engines
            .first()
            .is_some_and(|(_, frame)| frame.supports_lora);
        if let Some((index, frame)) = engines.iter().find(|(_, f)| f.supports_lora != lora) {
            return Err(unsupported(
                *index,
                "supports_lora",
                frame.supports_lora,
                "one value",
            ));
        }
        let frames = || engines.iter().map(|(_, frame)| frame);
        let first = frames().next().cloned().unwrap_or_default();
        Ok(Self {
            max_model_len: frames().map(|frame| frame.max_model_len).min().unwrap_or(0),
            num_gpu_blocks: frames().map(|frame| frame.num_gpu_blocks).sum(),
            block_size: first.block_size,
            dtype: first.dtype,
            vllm_version: first.vllm_version,
            max_num_seqs: frames().map(|frame| frame.max_num_seqs).sum(),
            supports_lora: lora,
            enable_sleep_mode: frames().all(|frame| frame.enable_sleep_mode),
            engines,
        })
    }
}

fn unsupported(
    index: u32,
    field: &'static str,
    value: impl std::fmt::Display,
    accepted: &'static str,
) -> ConnectError {
    ConnectError::Unsupported {
        index,
        field,
        value: value.to_string(),
        accepted,
    }
}

fn check(index: u32, frame: &ReadyResponse) -> Result<(), ConnectError> {
    if !DTYPES.contains(&frame.dtype.as_str()) {
        return Err(unsupported(
            index,
            "dtype",
            &frame.dtype,
            "float16, bfloat16, float32",
        ));
    }
    if frame.supports_lora != (frame.max_loras > 0) {
        let accepted = "true exactly when max_loras is above 0";
        return Err(unsupported(
            index,
            "supports_lora",
            frame.supports_lora,
            accepted,
        ));
    }
    if frame.dp_stats_address.is_some() {
        let accepted = "nil: a data-parallel coordinator is not supported yet";
        return Err(unsupported(
            index,
            "dp_stats_address",
            "an address",
            accepted,
        ));
    }
    Ok(())
}
