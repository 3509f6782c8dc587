// SPDX-License-Identifier: Apache-2.0

//! Text and tokenizers for the tests: deterministic, made here, nothing fetched.

#![allow(dead_code, reason = "each test binary uses a part")]

pub mod corpus;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Special tokens of the trained tokenizers.
pub const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

const WORDS: &str = "the of and to in is that for it as was with be by on not he his but at are this have from or \
    had an they which one you were all her she there would their we him been has when who will no more if out so up \
    said what its about than into them can only other time new some could these two may first then do any like my now \
    over such our man me even most made after also did many off before must well back through years where much your \
    way down should because long each just state people those too mister how little good world make very year still";

const CODE: &str = "fn main() { let x: Vec<u32> = (0..10).map(|i| i * 2).collect(); }\n\
    def greet(name):\n\treturn f\"hello {name!r}\"  # comment\n\
    SELECT id, COUNT(*) FROM users WHERE age >= 21 GROUP BY id;\n\
    <div class=\"a b\">&amp; text</div>\n\
    if (a != b && c <= d) { printf(\"%d\\n\", a->b[3]); } // done\n\
    https://example.org/path?q=1&r=%20#frag  user@example.com\n";

const SCRIPTS: [&str; 14] = [
    "Příliš žluťoučký kůň úpěl ďábelské ódy. ",
    "Съешь же ещё этих мягких французских булок. ",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ",
    "我能吞下玻璃而不伤身体。北京欢迎你！",
    "いろはにほへと ちりぬるを カタカナ ﾊﾝｶｸ。",
    "다람쥐 헌 쳇바퀴에 타고파. ",
    "صِف خَلقَ خَودِ كَمِثلِ الشَمسِ. ٠١٢٣٤ ",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה. ",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा १२३ ",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า ",
    "ქართული ენა Ⅷ ½ ² ₃ ① ",
    "e\u{301}a\u{30a}o\u{308} n\u{303} (combining) ŀ ŉ ſ ﬁ ﬀ K Å ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𠀀𠀁 𞤀𞤁 ",
    "אַ ﷺ ᾳ ǅ ʰ ˀ ː ⁿ ª º ",
];

const SYMBOLS: [&str; 12] = [
    "🙂",
    "👩‍👩‍👧‍👦",
    "🇪🇺",
    "👍🏽",
    "❤️",
    "…",
    "—",
    "“q”",
    "«x»",
    "€£¥",
    "→⇒",
    "∑∫√",
];

const CONTRACTIONS: [&str; 28] = [
    "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'VER", "'Ma", "'De",
    "'Task", "'LL", "'D", "'mañana", "'sé", "'ſ", "'tis", "'veal", "'rest", "'llama", "'don", "’s",
    "’Ma", "'Ver",
];

const SPACES: [&str; 16] = [
    " ",
    "  ",
    "   ",
    "        ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    " \n ",
    "\n   ",
    "\u{a0}",
    "\u{3000}",
    "\u{2003}\u{2009}",
    "\u{85}",
    "\u{2028}",
    " \t \r \n\n  ",
];

/// At least `bytes` of prose, code, scripts, emoji, control characters, contractions, whitespace, digits and special
/// tokens, mixed. The same seed gives the same text.
pub fn mixed_text(seed: u64, bytes: usize) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut text = String::with_capacity(bytes + 256);
    while text.len() < bytes {
        piece(&mut random, &words, &mut text);
    }
    text
}

fn piece(random: &mut fastrand::Rng, words: &[&str], text: &mut String) {
    match random.u32(0..100) {
        0..40 => text.push_str(&word(random, words)),
        40..55 => text.push_str(pick(random, &SPACES)),
        55..63 => {
            text.push_str(&word(random, words));
            text.push_str(pick(random, &CONTRACTIONS));
        }
        63..66 => text.push_str(pick(random, &CONTRACTIONS)),
        66..72 => text.push_str(slice(random, CODE)),
        72..80 => {
            let script = pick(random, &SCRIPTS);
            text.push_str(slice(random, script));
        }
        80..84 => text.push_str(pick(random, &SYMBOLS)),
        84..88 => text.extend((0..random.usize(1..9)).map(|_| random.char('0'..='9'))),
        88..91 => text.push(random.char('\0'..='\u{1f}')),
        91..94 => text.push(random.char('!'..='/')),
        94..96 => text.push(random.char('\u{80}'..='\u{2fff}')),
        96..97 => text.push(random.char('\0'..=char::MAX)),
        97..98 => text.push_str(&format!("<0x{:02X}>", random.u8(..))),
        _ => text.push_str(pick(random, &SPECIAL)),
    }
}

fn word(random: &mut fastrand::Rng, words: &[&str]) -> String {
    let word = pick(random, words);
    let cased = match random.u32(0..10) {
        0 => word.to_uppercase(),
        1 => word[..1].to_uppercase() + &word[1..],
        _ => word.to_owned(),
    };
    if random.u32(0..10) < 8 {
        format!(" {cased}")
    } else {
        cased
    }
}

fn pick<'a>(random: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(0..from.len())]
}

/// A piece of `text` between two of its characters.
fn slice<'a>(random: &mut fastrand::Rng, text: &'a str) -> &'a str {
    let bounds: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    let (a, b) = (random.usize(0..bounds.len()), random.usize(0..bounds.len()));
    &text[bounds[a.min(b)]..bounds[a.max(b)]]
}

/// The model of the default model's package, if it is on this machine: `VLLM_TEST_MODEL`, else the user's cache.
pub fn model() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("VLLM_TEST_MODEL") {
        return Some(path.into());
    }
    let root = match (
        std::env::var_os("VLLM_CACHE_ROOT"),
        std::env::var_os("XDG_CACHE_HOME"),
    ) {
        (Some(root), _) => PathBuf::from(root),
        (None, Some(cache)) => PathBuf::from(cache).join("vllm"),
        (None, None) => PathBuf::from(std::env::var_os("HOME")?).join(".cache/vllm"),
    };
    let path = root.join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    path.exists().then_some(path)
}

/// Families of byte-level tokenizers by their cutting rules, as their models publish them.
pub fn families() -> Vec<(&'static str, Value)> {
    let split = |expression: &str| json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false});
    let sequence = |steps: Vec<Value>| json!({"type": "Sequence", "pretokenizers": steps});
    let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let digits = json!({"type": "Digits", "individual_digits": true});
    let llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let qwen2 = llama3.replace("{1,3}", "");
    let qwen35 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let o200k = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let tekken = o200k
        .replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "")
        .replace("{1,3}", "");
    let deepseek = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
    let han = "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+";
    vec![
        ("gpt2", bytes(true)),
        ("smollm", sequence(vec![digits, bytes(true)])),
        ("llama3", sequence(vec![split(llama3), bytes(false)])),
        ("qwen2", sequence(vec![split(&qwen2), bytes(false)])),
        ("qwen35", sequence(vec![split(qwen35), bytes(false)])),
        ("o200k", sequence(vec![split(o200k), bytes(false)])),
        ("tekken", sequence(vec![split(&tekken), bytes(false)])),
        (
            "deepseek",
            sequence(vec![
                split(r"\p{N}{1,3}"),
                split(han),
                split(deepseek),
                bytes(false),
            ]),
        ),
    ]
}

/// A `tokenizer.json` of byte-level BPE with about 1,500 tokens, learned from mixed text.
pub fn byte_level_json() -> Value {
    let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let mut trainer: tokenizers::models::TrainerWrapper = BpeTrainer::builder()
        .vocab_size(1500)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(
            SPECIAL
                .iter()
                .map(|text| tokenizers::AddedToken::from(*text, true))
                .collect(),
        )
        .build()
        .into();
    tokenizer
        .train(&mut trainer, [mixed_text(1, 200_000)].iter())
        .expect("training");
    serde_json::from_str(&tokenizer.to_string(false).expect("JSON")).expect("JSON")
}

/// A `tokenizer.json` as Llama 2 has it: SentencePiece-style BPE, byte tokens for what the vocabulary lacks.
pub fn byte_fallback_json() -> Value {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let letters = ('!'..='~').chain("\u{2581}éя你".chars()).map(String::from);
    let merges = [
        ("\u{2581}", "t"),
        ("h", "e"),
        ("\u{2581}t", "he"),
        ("\u{2581}", "a"),
        ("n", "d"),
        ("\u{2581}a", "nd"),
        ("i", "n"),
        ("\u{2581}", "\u{2581}"),
        ("o", "n"),
        ("r", "e"),
    ];
    let special = ["<unk>", "<s>", "</s>"].map(String::from).into_iter();
    let joined = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let tokens: Vec<String> = special.chain(bytes).chain(letters).chain(joined).collect();
    let vocab: serde_json::Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), id.into()))
        .collect();
    let added = |id: u32, text: &str| json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        ]},
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": merges.map(|(left, right)| [left, right]),
        },
    })
}

/// Our tokenizer and the oracle from one description.
pub fn both(json: &Value) -> (vllm_tokenizer::Tokenizer, tokenizers::Tokenizer) {
    let text: Arc<str> = json.to_string().into();
    let oracle = text.parse().expect("tokenizers loads it");
    (
        vllm_tokenizer::Tokenizer::from_json(text).expect("we load it"),
        oracle,
    )
}
