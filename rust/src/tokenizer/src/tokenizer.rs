// SPDX-License-Identifier: Apache-2.0

//! The tokenizer of a model.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use vllm_model_files::ModelFiles;

use crate::bound::Bound;
use crate::description::{Description, Document};
use crate::detokenizer;
use crate::encoder::Encoder;
use crate::reference::ReferenceStream;
use crate::table::{Joining, TokenTable};
use crate::{Detokenizer, EncodeError, LoadError};

/// A model's tokenizer. Cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct Tokenizer {
    shared: Arc<Shared>,
}

struct Shared {
    encoder: Encoder,
    bound: Option<Bound>,
    table: Arc<TokenTable>,
    json: Arc<str>,
    /// Made when somebody asks for an id by its token.
    ids: OnceLock<TokenIds>,
}

type TokenIds = HashMap<String, u32, ahash::RandomState>;

impl Tokenizer {
    /// Builds the tokenizer of a model, so that the first request pays nothing extra.
    ///
    /// # Errors
    ///
    /// If the description is not one that `tokenizers` would load.
    pub fn load(files: &ModelFiles) -> Result<Self, LoadError> {
        Self::from_json(files.tokenizer_json.clone())
    }

    /// The same from the text of a `tokenizer.json`.
    pub fn from_json(json: Arc<str>) -> Result<Self, LoadError> {
        let document = Document::read(&json)?;
        let description = Description::read(&document)?;
        // The encoder takes longest: the table is built beside it.
        let (encoder, table) = std::thread::scope(|scope| {
            let encoder = scope.spawn(|| Encoder::load(json.clone(), &document));
            let table = TokenTable::build(&description);
            (encoder.join(), table)
        });
        let encoder = encoder.map_err(|_| LoadError::new("building the encoder failed"))??;
        if table.joining == Joining::Opaque {
            encoder.reference()?;
        }
        let shared = Shared {
            encoder,
            bound: Bound::read(&document),
            table: Arc::new(table),
            json: json.clone(),
            ids: OnceLock::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Token ids of `text`, equal to those of `tokenizers`. With `add_special_tokens` the tokenizer's own frame (such
    /// as a beginning-of-sequence token) is put around. Special tokens written out in `text` are recognized, as
    /// Hugging Face does. Long texts take milliseconds: call from a thread that may block.
    ///
    /// # Errors
    ///
    /// If the vocabulary cannot express the text (never for byte-level and byte-fallback vocabularies).
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, EncodeError> {
        self.shared.encoder.encode(text, add_special_tokens)
    }

    /// Bytes of text that one token stands for at most; `None` where a token may stand for any number of them.
    pub fn longest_token(&self) -> Option<usize> {
        self.shared.bound.as_ref().map(|bound| bound.longest)
    }

    /// A text has this many tokens or more, told from its bytes in a fraction of the time that encoding takes; 0 where
    /// nothing can be told.
    pub fn least_tokens(&self, text: &str) -> usize {
        let bound = self.shared.bound.as_ref();
        bound.map_or(0, |bound| bound.least_tokens(text))
    }

    /// What encodes: `byte-level` (the encoder of this crate), `fastokens` or `tokenizers`.
    pub fn encoder(&self) -> &'static str {
        self.shared.encoder.name()
    }

    /// Text of a whole sequence, equal to that of `tokenizers`; ids outside of the vocabulary give nothing.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        match self.shared.opaque() {
            Some(reference) => reference.decode(ids, skip_special_tokens),
            None => detokenizer::decode(&self.shared.table, ids, skip_special_tokens),
        }
    }

    /// A detokenizer for what follows `prompt`; with an empty prompt for a sequence from its start.
    pub fn detokenizer(&self, prompt: &[u32], skip_special_tokens: bool) -> Detokenizer {
        match self.shared.opaque() {
            Some(reference) => {
                Detokenizer::reference(ReferenceStream::new(reference, prompt, skip_special_tokens))
            }
            None => Detokenizer::table(self.shared.table.clone(), prompt, skip_special_tokens),
        }
    }

    /// Exact bytes that a token stands for within running text; `None` for an id outside of the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.shared.table.get(id).map(|token| token.bytes)
    }

    /// The same as text, U+FFFD where the bytes are no UTF-8; empty for an unknown id.
    pub fn token_text(&self, id: u32) -> Cow<'_, str> {
        String::from_utf8_lossy(self.token_bytes(id).unwrap_or_default())
    }

    /// Id of a token given in its vocabulary form (byte-level alphabet, `▁`), added tokens included.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        let ids = self.shared.ids.get_or_init(|| token_ids(&self.shared.json));
        ids.get(token).copied()
    }

    /// Whether the token is left out of text under `skip_special_tokens`.
    pub fn is_special(&self, id: u32) -> bool {
        self.shared
            .table
            .get(id)
            .is_some_and(|token| token.is_special())
    }

    /// Largest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.shared.table.len()
    }
}

/// The map token -> id; empty for what [`Tokenizer::from_json`] would refuse.
fn token_ids(json: &str) -> TokenIds {
    let Ok(document) = Document::read(json) else {
        return TokenIds::default();
    };
    let tokens = Description::read(&document).map(|description| description.tokens);
    let numbered = (0u32..).zip(tokens.unwrap_or_default());
    numbered
        .filter_map(|(id, token)| Some((token?.to_owned(), id)))
        .collect()
}

impl Shared {
    /// The reference, for a decoder that the table does not cover.
    fn opaque(&self) -> Option<Arc<crate::reference::Reference>> {
        match self.table.joining {
            Joining::Opaque => self.encoder.reference().ok(),
            _ => None,
        }
    }
}
