// SPDX-License-Identifier: Apache-2.0

//! Parameters of pooling models, 11 slots. Carried for completeness: this frontend has no pooling
//! route yet.

use rmpv::Value;

use super::error::DecodeError;
use super::read::Reader;
use super::write::Writer;

type Result<T> = std::result::Result<T, DecodeError>;

/// Late interaction of query and document embeddings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LateInteraction {
    /// What to do with the query's embeddings.
    pub mode: String,
    /// Key of the cached query.
    pub query_key: String,
    /// Uses of the cached query.
    pub query_uses: Option<u64>,
}

/// How a pooling model is used.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PoolingParams {
    /// Apply the activation.
    pub use_activation: Option<bool>,
    /// Length of the embedding.
    pub dimensions: Option<u64>,
    /// Token that ends a step (process reward models).
    pub step_tag_id: Option<i64>,
    /// Tokens whose scores are wanted.
    pub returned_token_ids: Option<Vec<u32>>,
    /// `embed`, `classify`, `token_embed`, `token_classify`, `plugin` or `embed&token_classify`.
    pub task: Option<String>,
    /// The pooler needs the prompt's ids.
    pub requires_token_ids: bool,
    /// Compute the whole prompt.
    pub skip_reading_prefix_cache: Option<bool>,
    /// Late interaction.
    pub late_interaction: Option<LateInteraction>,
    /// Arguments for plug-ins.
    pub extra_kwargs: Option<Value>,
    /// Always 2, the end only.
    pub output_kind: u64,
    /// Tokens per chunk of late chunking.
    pub late_chunk_size: Option<u64>,
}

impl PoolingParams {
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.array(11);
        w.option(self.use_activation, Writer::bool);
        w.option(self.dimensions, Writer::u64);
        w.option(self.step_tag_id, Writer::i64);
        w.option(self.returned_token_ids.as_deref(), Writer::u32s);
        w.option(self.task.as_deref(), Writer::str);
        w.bool(self.requires_token_ids);
        w.option(self.skip_reading_prefix_cache, Writer::bool);
        w.option(self.late_interaction.as_ref(), |w, late| {
            w.array(3);
            w.str(&late.mode);
            w.str(&late.query_key);
            w.option(late.query_uses, Writer::u64);
        });
        w.option(self.extra_kwargs.as_ref(), Writer::value);
        w.u64(self.output_kind);
        w.option(self.late_chunk_size, |w, size| {
            w.array(1);
            w.u64(size);
        });
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        const FIELD: &str = "pooling_params";
        let mut out = Self {
            output_kind: 2,
            ..Self::default()
        };
        let mut slots = r.slots(FIELD)?;
        if slots.take() {
            out.use_activation = r.nullable(|r| r.bool(FIELD))?;
        }
        if slots.take() {
            out.dimensions = r.nullable(|r| r.u64(FIELD))?;
        }
        if slots.take() {
            out.step_tag_id = r.nullable(|r| r.i64(FIELD))?;
        }
        if slots.take() {
            out.returned_token_ids = r.nullable(|r| r.vec(FIELD, |r| r.uint32(FIELD)))?;
        }
        if slots.take() {
            out.task = r.nullable(|r| r.string(FIELD))?;
        }
        if slots.take() {
            out.requires_token_ids = r.nullable(|r| r.bool(FIELD))?.unwrap_or(false);
        }
        if slots.take() {
            out.skip_reading_prefix_cache = r.nullable(|r| r.bool(FIELD))?;
        }
        if slots.take() {
            out.late_interaction = r.nullable(late_interaction)?;
        }
        if slots.take() {
            out.extra_kwargs = r.nullable(|r| r.value(FIELD))?;
        }
        if slots.take() {
            out.output_kind = r.u64(FIELD)?;
        }
        if slots.take() {
            out.late_chunk_size = r.nullable(late_chunk_size)?;
        }
        slots.finish(r, FIELD)?;
        Ok(out)
    }
}

fn late_interaction(r: &mut Reader<'_>) -> Result<LateInteraction> {
    const FIELD: &str = "late_interaction_params";
    let mut slots = r.slots(FIELD)?;
    let mut out = LateInteraction::default();
    slots.require(FIELD)?;
    out.mode = r.string(FIELD)?;
    slots.require(FIELD)?;
    out.query_key = r.string(FIELD)?;
    if slots.take() {
        out.query_uses = r.nullable(|r| r.u64(FIELD))?;
    }
    slots.finish(r, FIELD)?;
    Ok(out)
}

fn late_chunk_size(r: &mut Reader<'_>) -> Result<u64> {
    const FIELD: &str = "late_chunking_params";
    let mut slots = r.slots(FIELD)?;
    slots.require(FIELD)?;
    let size = r.u64(FIELD)?;
    slots.finish(r, FIELD)?;
    Ok(size)
}
