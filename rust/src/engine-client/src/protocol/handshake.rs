// SPDX-License-Identifier: Apache-2.0

//! Start-up messages: HELLO, INIT, READY, and the registration frame with the engine's sizes.

use rmpv::Value;

use super::error::DecodeError;
use super::read::Reader;
use super::write::Writer;

type Result<T> = std::result::Result<T, DecodeError>;

/// What an engine says on the handshake plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineStatus {
    /// It is there and wants addresses.
    Hello,
    /// Its model is loaded.
    Ready,
}

/// HELLO or READY.
#[derive(Debug, Clone, PartialEq)]
pub struct HandshakeMessage {
    /// Which of the two.
    pub status: EngineStatus,
    /// It runs beside the process it greets.
    pub local: bool,
    /// It was started by a node without frontend.
    pub headless: bool,
    /// Digest of the parallel configuration (READY, several ranks).
    pub parallel_config_hash: Option<String>,
}

impl HandshakeMessage {
    /// Encodes the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(64);
        w.map(3 + usize::from(self.parallel_config_hash.is_some()));
        w.str("status");
        w.str(match self.status {
            EngineStatus::Hello => "HELLO",
            EngineStatus::Ready => "READY",
        });
        w.str("local");
        w.bool(self.local);
        w.str("headless");
        w.bool(self.headless);
        if let Some(hash) = &self.parallel_config_hash {
            w.str("parallel_config_hash");
            w.str(hash);
        }
        w.into_parts().0
    }

    /// Decodes the message.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let mut status = None;
        let (mut local, mut headless, mut hash) = (false, false, None);
        Reader::new(payload).entries("handshake", |r, key| {
            match key {
                b"status" => status = Some(decode_status(r)?),
                b"local" => local = r.bool("local")?,
                b"headless" => headless = r.bool("headless")?,
                b"parallel_config_hash" => {
                    hash = r.nullable(|r| r.string("parallel_config_hash"))?;
                }
                _ => r.skip("handshake")?,
            }
            Ok(())
        })?;
        let status = status.ok_or(DecodeError::Missing { field: "status" })?;
        Ok(Self {
            status,
            local,
            headless,
            parallel_config_hash: hash,
        })
    }
}

fn decode_status(r: &mut Reader<'_>) -> Result<EngineStatus> {
    match r.str_bytes("status")? {
        b"HELLO" => Ok(EngineStatus::Hello),
        b"READY" => Ok(EngineStatus::Ready),
        _ => Err(DecodeError::Message("status: expected HELLO or READY")),
    }
}

/// Where an engine connects to; `inputs[i]` and `outputs[i]` belong to frontend `i`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineAddresses {
    /// ROUTERs of the frontends.
    pub inputs: Vec<String>,
    /// PULLs of the frontends.
    pub outputs: Vec<String>,
    /// Coordinator, to engines.
    pub coordinator_input: Option<String>,
    /// Coordinator, from engines.
    pub coordinator_output: Option<String>,
    /// Coordinator, to frontends.
    pub frontend_stats_publish_address: Option<String>,
}

/// Answer to HELLO.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InitMessage {
    /// Where to connect to.
    pub addresses: EngineAddresses,
    /// Keys that the engine copies onto its parallel configuration; mostly none.
    pub parallel_config: Vec<(String, Value)>,
}

impl InitMessage {
    /// Encodes the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(256);
        w.map(2);
        w.str("addresses");
        self.addresses.encode(&mut w);
        w.str("parallel_config");
        w.map(self.parallel_config.len());
        for (key, value) in &self.parallel_config {
            w.str(key);
            w.value(value);
        }
        w.into_parts().0
    }

    /// Decodes the message.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let mut out = Self::default();
        let mut addressed = false;
        Reader::new(payload).entries("init", |r, key| {
            match key {
                b"addresses" => {
                    addressed = true;
                    out.addresses = EngineAddresses::decode(r)?;
                }
                b"parallel_config" => out.parallel_config = parallel_config(r)?,
                _ => r.skip("init")?,
            }
            Ok(())
        })?;
        if !addressed {
            return Err(DecodeError::Missing { field: "addresses" });
        }
        Ok(out)
    }
}

fn parallel_config(r: &mut Reader<'_>) -> Result<Vec<(String, Value)>> {
    const FIELD: &str = "parallel_config";
    let count = r.map_len(FIELD)?;
    (0..count)
        .map(|_| Ok((r.string(FIELD)?, r.value(FIELD)?)))
        .collect()
}

impl EngineAddresses {
    fn encode(&self, w: &mut Writer) {
        w.map(5);
        for (key, list) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            w.str(key);
            w.seq(list, |w, address| w.str(address));
        }
        for (key, address) in [
            ("coordinator_input", &self.coordinator_input),
            ("coordinator_output", &self.coordinator_output),
            (
                "frontend_stats_publish_address",
                &self.frontend_stats_publish_address,
            ),
        ] {
            w.str(key);
            w.option(address.as_deref(), Writer::str);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        const FIELD: &str = "addresses";
        let mut out = Self::default();
        r.entries(FIELD, |r, key| {
            let slot = match key {
                b"inputs" => {
                    out.inputs = r.vec(FIELD, |r| r.string(FIELD))?;
                    return Ok(());
                }
                b"outputs" => {
                    out.outputs = r.vec(FIELD, |r| r.string(FIELD))?;
                    return Ok(());
                }
                b"coordinator_input" => &mut out.coordinator_input,
                b"coordinator_output" => &mut out.coordinator_output,
                b"frontend_stats_publish_address" => &mut out.frontend_stats_publish_address,
                _ => return r.skip(FIELD),
            };
            *slot = r.nullable(|r| r.string(FIELD))?;
            Ok(())
        })?;
        Ok(out)
    }
}

/// An engine's sizes, sent once on the input plane before anything else.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReadyResponse {
    /// Longest sequence in tokens.
    pub max_model_len: u64,
    /// KV blocks.
    pub num_gpu_blocks: u64,
    /// Tokens per KV block.
    pub block_size: u64,
    /// Coordinator to subscribe to.
    pub dp_stats_address: Option<String>,
    /// `float16`, `bfloat16` or `float32`.
    pub dtype: String,
    /// Release of the engine.
    pub vllm_version: String,
    /// Processes of one rank.
    pub world_size: u64,
    /// Ranks.
    pub data_parallel_size: u64,
    /// Tensor-parallel processes.
    pub tensor_parallel_size: u64,
    /// Pipeline stages.
    pub pipeline_parallel_size: u64,
    /// Context-parallel processes in decode.
    pub decode_context_parallel_size: u64,
    /// This engine's rank.
    pub data_parallel_rank: u64,
    /// Running requests at most.
    pub max_num_seqs: u64,
    /// Tokens per step at most.
    pub max_num_batched_tokens: u64,
    /// Distinguishes engines with equal settings.
    pub instance_id: String,
    /// Adapters can be loaded; equals `max_loras > 0`.
    pub supports_lora: bool,
    /// Adapters at most.
    pub max_loras: u64,
    /// Tokens that the KV cache holds.
    pub kv_cache_size_tokens: Option<u64>,
    /// Full-length sequences that the KV cache holds.
    pub kv_cache_max_concurrency: Option<f64>,
    /// Where KV events are published.
    pub kv_events_config: Option<Value>,
    /// Weight transfer backend.
    pub weight_transfer_backend: Option<String>,
    /// Sleep and wake up are available.
    pub enable_sleep_mode: bool,
    /// Draft weights can be updated.
    pub supports_draft_weight_updates: bool,
    /// Block size that attention sees.
    pub effective_attention_block_size: Option<u64>,
}

impl ReadyResponse {
    /// Encodes the frame with all keys of the 0.33 wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(768);
        w.map(28);
        self.encode_sizes(&mut w);
        w.str("dp_stats_address");
        w.option(self.dp_stats_address.as_deref(), Writer::str);
        for (key, text) in [
            ("dtype", &self.dtype),
            ("vllm_version", &self.vllm_version),
            ("instance_id", &self.instance_id),
        ] {
            w.str(key);
            w.str(text);
        }
        for (key, flag) in [
            ("supports_lora", self.supports_lora),
            ("enable_sleep_mode", self.enable_sleep_mode),
            (
                "supports_draft_weight_updates",
                self.supports_draft_weight_updates,
            ),
        ] {
            w.str(key);
            w.bool(flag);
        }
        self.encode_optional(&mut w);
        w.into_parts().0
    }

    /// 13 keys.
    fn encode_sizes(&self, w: &mut Writer) {
        for (key, value) in [
            ("max_model_len", self.max_model_len),
            ("num_gpu_blocks", self.num_gpu_blocks),
            ("block_size", self.block_size),
            ("world_size", self.world_size),
            ("data_parallel_size", self.data_parallel_size),
            ("tensor_parallel_size", self.tensor_parallel_size),
            ("pipeline_parallel_size", self.pipeline_parallel_size),
            (
                "decode_context_parallel_size",
                self.decode_context_parallel_size,
            ),
            ("data_parallel_rank", self.data_parallel_rank),
            ("max_num_seqs", self.max_num_seqs),
            ("max_num_batched_tokens", self.max_num_batched_tokens),
            ("max_loras", self.max_loras),
            ("coord_store_port", 0),
        ] {
            w.str(key);
            w.u64(value);
        }
    }

    /// 8 keys.
    fn encode_optional(&self, w: &mut Writer) {
        w.str("kv_cache_size_tokens");
        w.option(self.kv_cache_size_tokens, Writer::u64);
        w.str("kv_cache_max_concurrency");
        w.option(self.kv_cache_max_concurrency, Writer::f64);
        w.str("kv_events_config");
        w.option(self.kv_events_config.as_ref(), Writer::value);
        w.str("weight_transfer_backend");
        w.option(self.weight_transfer_backend.as_deref(), Writer::str);
        w.str("effective_attention_block_size");
        w.option(self.effective_attention_block_size, Writer::u64);
        for key in [
            "mamba_block_size",
            "coordinator_input_address",
            "coordinator_output_address",
        ] {
            w.str(key);
            w.nil();
        }
    }

    /// Decodes the frame; a missing required key is an error that names it.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let mut out = Self::default();
        let mut seen = 0u32;
        Reader::new(payload).entries("registration", |r, key| {
            if let Some(at) = REQUIRED.iter().position(|name| name.as_bytes() == key) {
                seen |= 1 << at;
                return out.decode_required(r, REQUIRED[at]);
            }
            out.decode_optional(r, key)
        })?;
        match (0..REQUIRED.len()).find(|at| seen & (1 << at) == 0) {
            Some(at) => Err(DecodeError::Missing {
                field: REQUIRED[at],
            }),
            None => Ok(out),
        }
    }

    fn decode_required(&mut self, r: &mut Reader<'_>, key: &'static str) -> Result<()> {
        let slot = match key {
            "dtype" => return r.string(key).map(|text| self.dtype = text),
            "vllm_version" => return r.string(key).map(|text| self.vllm_version = text),
            "instance_id" => return r.string(key).map(|text| self.instance_id = text),
            "supports_lora" => return r.bool(key).map(|flag| self.supports_lora = flag),
            "max_model_len" => &mut self.max_model_len,
            "num_gpu_blocks" => &mut self.num_gpu_blocks,
            "block_size" => &mut self.block_size,
            "world_size" => &mut self.world_size,
            "data_parallel_size" => &mut self.data_parallel_size,
            "tensor_parallel_size" => &mut self.tensor_parallel_size,
            "pipeline_parallel_size" => &mut self.pipeline_parallel_size,
            "decode_context_parallel_size" => &mut self.decode_context_parallel_size,
            "data_parallel_rank" => &mut self.data_parallel_rank,
            "max_num_seqs" => &mut self.max_num_seqs,
            "max_num_batched_tokens" => &mut self.max_num_batched_tokens,
            _ => &mut self.max_loras,
        };
        *slot = r.u64(key)?;
        Ok(())
    }

    fn decode_optional(&mut self, r: &mut Reader<'_>, key: &[u8]) -> Result<()> {
        const FIELD: &str = "registration";
        match key {
            b"dp_stats_address" => self.dp_stats_address = r.nullable(|r| r.string(FIELD))?,
            b"kv_cache_size_tokens" => self.kv_cache_size_tokens = r.nullable(|r| r.u64(FIELD))?,
            b"kv_cache_max_concurrency" => {
                self.kv_cache_max_concurrency = r.nullable(|r| r.f64(FIELD))?;
            }
            b"kv_events_config" => self.kv_events_config = r.nullable(|r| r.value(FIELD))?,
            b"weight_transfer_backend" => {
                self.weight_transfer_backend = r.nullable(|r| r.string(FIELD))?;
            }
            b"enable_sleep_mode" => {
                self.enable_sleep_mode = r.nullable(|r| r.bool(FIELD))?.unwrap_or(false);
            }
            b"supports_draft_weight_updates" => {
                self.supports_draft_weight_updates =
                    r.nullable(|r| r.bool(FIELD))?.unwrap_or(false);
            }
            b"effective_attention_block_size" => {
                self.effective_attention_block_size = r.nullable(|r| r.u64(FIELD))?;
            }
            _ => r.skip(FIELD)?,
        }
        Ok(())
    }
}

/// Keys without which an engine can't be used.
const REQUIRED: [&str; 16] = [
    "max_model_len",
    "num_gpu_blocks",
    "block_size",
    "dtype",
    "vllm_version",
    "world_size",
    "data_parallel_size",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "decode_context_parallel_size",
    "data_parallel_rank",
    "max_num_seqs",
    "max_num_batched_tokens",
    "instance_id",
    "supports_lora",
    "max_loras",
];
