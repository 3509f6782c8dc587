// SPDX-License-Identifier: Apache-2.0

//! `POST /tokenize` and `POST /detokenize`.

use http::StatusCode;
use vllm_model_files::SpecialToken;
use vllm_openai::ApiError;
use vllm_openai::response::{Detokenized, Tokenized};
use vllm_openai::tokenize::{DetokenizeRequest, TokenizeInput, TokenizeRequest};

use crate::app::App;
use crate::emit::json as write;
use crate::routes::{Answer, Call, json};
use crate::{prompt, sampling};

/// Text or conversation to token ids.
pub async fn tokenize(call: Call) -> Answer {
    let (head, body) = call.read_body().await?;
    let app = &head.app;
    let request = prompt::read(&head, body, TokenizeRequest::from_json).await?;
    check_model(app, request.model.as_deref())?;
    let tokens = match request.input {
        TokenizeInput::Chat(chat) => prompt::chat_unlimited(&head, *chat).await?,
        TokenizeInput::Text(text) => {
            let how = prompt::Encoding {
                add_special_tokens: request.add_special_tokens.unwrap_or(true),
                must_fit: false,
            };
            prompt::encode(&head, vec![text], how)
                .await?
                .pop()
                .unwrap_or_default()
        }
    };
    let strings = |ids: &[u32]| {
        ids.iter()
            .map(|&id| app.model.tokenizer.token_text(id).into_owned())
            .collect()
    };
    let answer = Tokenized {
        count: tokens.len(),
        max_model_len: app.model.context,
        token_strs: request.return_token_strs.then(|| strings(&tokens)),
        tokens,
    };
    Ok(body_of(&answer))
}

/// Token ids to text.
pub async fn detokenize(call: Call) -> Answer {
    let (head, body) = call.read_body().await?;
    let app = &head.app;
    let request = prompt::read(&head, body, DetokenizeRequest::from_json).await?;
    check_model(app, request.model.as_deref())?;
    sampling::check(&app.model, "tokens", request.tokens.iter().copied())?;
    let prompt = app.model.tokenizer.decode(&request.tokens, false);
    Ok(body_of(&Detokenized { prompt }))
}

/// `GET /tokenizer_info`: what a client needs to render and encode by itself.
pub async fn info(call: Call) -> Answer {
    let model = &call.head.app.model;
    let about = &model.about;
    let text = |token: &Option<SpecialToken>| token.as_ref().map(|token| token.text.clone());
    let special = &about.special_tokens;
    let info = serde_json::json!({
        "vocab_size": model.tokenizer.vocab_size(),
        "model_max_length": model.context,
        "bos_token": text(&special.bos),
        "eos_token": text(&special.eos),
        "unk_token": text(&special.unk),
        "pad_token": text(&special.pad),
        "add_bos_token": about.add_bos_token,
        "chat_template": about.chat_template,
    });
    Ok(json(StatusCode::OK, info.to_string()))
}

fn check_model(app: &App, name: Option<&str>) -> Result<(), ApiError> {
    match name.filter(|name| !app.model.answers_to(name)) {
        Some(name) => Err(ApiError::model_not_found(name)),
        None => Ok(()),
    }
}

fn body_of(answer: &impl serde::Serialize) -> http::Response<crate::body::Body> {
    let mut out = Vec::new();
    write::value(answer, &mut out);
    json(StatusCode::OK, out)
}
