//! What inference engines write in shapes of their own: llama.cpp's server, SGLang, vLLM.

use super::{Draft, Format, Scope, Soft, labels, list, needed, simple, text};
use crate::traces::json::View;
use crate::traces::validate::Reason;
use crate::traces::{Layout, Role, Turn};

/// A completion of llama.cpp's server. Its prompt is text, not a conversation.
pub(super) fn llama_server(line: View<'_>) -> Result<Draft, Reason> {
    let mut draft = completed(line, Format::LlamaServer, needed(line, "content")?)?;
    let settings = line.get("generation_settings");
    if let Some(turn) = draft.turns.last_mut() {
        let limit = line.get("stopped_limit").and_then(View::bool).unwrap_or(false);
        turn.ended = !limit && text(line, "stop_type")? != Some("limit");
    }
    draft.labels = labels::find(line)?;
    if let Some(soft) = &mut draft.labels {
        soft.teacher.model = text(line, "model")?.map(str::to_string);
        soft.teacher.temperature = settings
            .and_then(|settings| settings.get("temperature")?.number())
            .map(|t| t as f32);
    }
    Ok(draft)
}

/// A generation of SGLang.
pub(super) fn sglang(line: View<'_>) -> Result<Draft, Reason> {
    let mut draft = completed(line, Format::Sglang, needed(line, "text")?)?;
    let reason = line
        .get("meta_info")
        .and_then(|meta| meta.get("finish_reason")?.get("type")?.text());
    if let Some(turn) = draft.turns.last_mut() {
        turn.ended = reason != Some("length");
    }
    draft.labels = labels::find(line)?;
    Ok(draft)
}

/// Text behind its prompt, if that is there.
fn completed(line: View<'_>, format: Format, said: &str) -> Result<Draft, Reason> {
    let mut turns = Vec::new();
    // A prompt may also be a list of ids, which says nothing to a student.
    if let Some(prompt) = line
        .get("prompt")
        .and_then(View::text)
        .filter(|prompt| !prompt.is_empty())
    {
        turns.push(Turn::new(Role::User, prompt));
    }
    turns.extend(simple::text_turns(said));
    Ok(Draft::new(format, Layout::Plain, turns))
}

/// vLLM's scores of a prompt without any conversation: the ids are the row.
pub(super) fn vllm(line: View<'_>) -> Result<Draft, Reason> {
    let mut soft = prompt_scores(line, line)?.ok_or(Reason::Field {
        field: "prompt_token_ids",
        wanted: "the ids of the prompt's tokens",
    })?;
    soft.scope = Scope::Row;
    let said = match text(line, "prompt")? {
        Some(prompt) => prompt.to_string(),
        None => String::from_utf8_lossy(soft.teacher.text()).into_owned(),
    };
    Ok(Draft {
        labels: Some(soft),
        ..Draft::new(Format::Vllm, Layout::Tokens, simple::text_turns(&said))
    })
}

/// `prompt_logprobs` of a choice or of the body around it.
pub(super) fn prompt_scores<'a>(choice: View<'a>, body: View<'a>) -> Result<Option<Soft>, Reason> {
    let holder = if choice.get("prompt_logprobs").is_some() {
        choice
    } else {
        body
    };
    let Some(scores) = list(holder, "prompt_logprobs")? else {
        return Ok(None);
    };
    let ids = match list(choice, "prompt_token_ids")? {
        Some(ids) => Some(ids),
        None => list(body, "prompt_token_ids")?,
    };
    labels::prompt_scores(scores, ids).map(Some)
}
