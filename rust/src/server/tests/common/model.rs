// SPDX-License-Identifier: Apache-2.0

//! The smallest real model: 256 byte tokens whose id is the byte, two special tokens, a ChatML template.

use std::path::Path;

use serde_json::{Map, Value, json};
use vllm_model_files::ModelFiles;

/// `<|im_start|>`
pub const START: u32 = 256;
/// `<|im_end|>`, the end of a sequence.
pub const END: u32 = 257;

const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// The character that byte-level vocabularies write for a byte: printable ones for themselves, the others from U+0100.
fn letter(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + before).expect("below U+0144")
}

fn tokenizer() -> Value {
    let vocab: Map<String, Value> = (0..=255u8)
        .map(|byte| (letter(byte).to_string(), byte.into()))
        .collect();
    let special = |id: u32, content: &str| json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    json!({
        "version": "1.0",
        "added_tokens": [special(START, "<|im_start|>"), special(END, "<|im_end|>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": []},
    })
}

/// Writes the model's directory.
pub fn write(folder: &Path) {
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 4096,
        "vocab_size": 258,
        "eos_token_id": END,
    });
    let tokenizer_config = json!({"eos_token": "<|im_end|>", "chat_template": TEMPLATE});
    let files = [
        ("config.json", config),
        ("tokenizer.json", tokenizer()),
        ("tokenizer_config.json", tokenizer_config),
    ];
    for (name, value) in files {
        std::fs::write(folder.join(name), value.to_string()).expect("the folder is writable");
    }
}

/// The model's files, read from a directory as any other's.
pub fn files() -> ModelFiles {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path());
    ModelFiles::open(folder.path()).expect("a sound model")
}
