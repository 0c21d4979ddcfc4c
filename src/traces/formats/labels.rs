//! Soft labels: every way in which engines write down log-probabilities.

use super::{Labels, Scope, Soft, list};
use crate::traces::json::View;
use crate::traces::teacher::{Spelled, Teacher};
use crate::traces::validate::Reason;

/// The soft labels of a row, those of a scored prompt among them.
pub(super) fn of_row(row: View<'_>) -> Result<Option<Soft>, Reason> {
    if let Some(found) = find(row)? {
        return Ok(Some(found));
    }
    match list(row, "prompt_logprobs")? {
        Some(scores) => prompt_scores(scores, list(row, "prompt_token_ids")?).map(Some),
        None => Ok(None),
    }
}

/// The soft labels of an answer, which stand in a row, a choice, or the body of a response.
pub(super) fn find(object: View<'_>) -> Result<Option<Soft>, Reason> {
    if let Some(logprobs) = object.get("logprobs").or(object.get("target_logprobs"))
        && let Some(found) = in_logprobs(object, logprobs)?
    {
        return Ok(Some(found));
    }
    for field in ["completion_probabilities", "probs"] {
        if let Some(entries) = object
            .get(field)
            .and_then(View::items)
            .filter(|items| items.clone().next().is_some())
        {
            return entry_list(entries, Labels::LlamaServer, field).map(Some);
        }
    }
    if let Some(meta) = object.get("meta_info") {
        return sglang(meta);
    }
    Ok(None)
}

/// What stands under `logprobs`, which several conventions share.
fn in_logprobs(object: View<'_>, logprobs: View<'_>) -> Result<Option<Soft>, Reason> {
    const FIELD: Reason = Reason::Field {
        field: "logprobs",
        wanted: "a list of positions, or an object with content or tokens",
    };
    if logprobs.is_object() {
        if let Some(content) = list(logprobs, "content")? {
            let soft = entry_list(content, Labels::OpenAi, "logprobs")?;
            return Ok((!soft.teacher.is_empty()).then_some(soft));
        }
        if logprobs.get("tokens").is_some() {
            return completions(logprobs).map(Some);
        }
        // `content` may be null: no log-probabilities were asked for.
        return Ok(None);
    }
    // A request beside its response says only how many are wanted.
    if logprobs.bool().is_some() || logprobs.number().is_some() {
        return Ok(None);
    }
    let positions = logprobs.items().ok_or(FIELD)?;
    match positions.clone().next() {
        None => return Ok(None),
        // The list that others put under `content`.
        Some(first) if first.is_object() => return entry_list(positions, Labels::OpenAi, "logprobs").map(Some),
        Some(_) => {}
    }
    match object.get("target_token_ids") {
        Some(ids) => axolotl_v2(positions, ids).map(Some),
        None => axolotl_v1(positions).map(Some),
    }
}

/// The scratch space for bytes that are written as numbers.
#[derive(Default)]
struct Scratch(Vec<u8>);

impl Scratch {
    /// The id and the bytes of an entry with `token`, `bytes`, `id`, each of which may be missing.
    fn piece<'s>(&'s mut self, item: View<'s>, number: usize) -> Result<(Option<u32>, Spelled<'s>), Reason> {
        let mut id = item.get("id").and_then(View::id);
        let name = match item.get("token").or(item.get("tok_str")).or(item.get("content")) {
            Some(token) => Some(token.text().ok_or(Reason::Field {
                field: "token",
                wanted: "a string",
            })?),
            None => None,
        };
        if let Some(name) = name.and_then(id_in_name) {
            return Ok((Some(name), Spelled::Absent));
        }
        let is_damaged = name.is_some_and(|name| name.contains('\u{fffd}'));
        if let Some(bytes) = list(item, "bytes")? {
            self.0.clear();
            for byte in bytes {
                let byte = byte.id().and_then(|byte| u8::try_from(byte).ok());
                self.0.push(byte.ok_or(Reason::NotBytes { token: number })?);
            }
            // Some engines encode the text that they show, so that half a character becomes U+FFFD in the bytes too.
            let is_damaged = is_damaged && self.0.windows(3).any(|w| w == "\u{fffd}".as_bytes());
            return Ok((
                id,
                if is_damaged {
                    Spelled::Damaged
                } else {
                    Spelled::Known(&self.0)
                },
            ));
        }
        id = id.or_else(|| item.get("token_id").and_then(View::id));
        let bytes = match name {
            None => Spelled::Absent,
            Some(_) if is_damaged => Spelled::Damaged,
            Some(name) => match escaped_bytes(name, &mut self.0) {
                true => Spelled::Known(&self.0),
                false => Spelled::Known(name.as_bytes()),
            },
        };
        Ok((id, bytes))
    }

    /// The bytes of a token that is given by its text alone.
    fn text<'s>(&'s mut self, name: &'s str) -> (Option<u32>, Spelled<'s>) {
        if let Some(id) = id_in_name(name) {
            return (Some(id), Spelled::Absent);
        }
        let bytes = if name.contains('\u{fffd}') {
            Spelled::Damaged
        } else if escaped_bytes(name, &mut self.0) {
            Spelled::Known(&self.0)
        } else {
            Spelled::Known(name.as_bytes())
        };
        (None, bytes)
    }
}

/// vLLM can write ids in place of texts.
fn id_in_name(name: &str) -> Option<u32> {
    name.strip_prefix("token_id:")?.parse().ok()
}

/// Older completions write part of a character as `bytes:\xe2\x82`.
fn escaped_bytes(name: &str, into: &mut Vec<u8>) -> bool {
    into.clear();
    let Some(escapes) = name.strip_prefix("bytes:").filter(|rest| rest.starts_with("\\x")) else {
        return false;
    };
    for escape in escapes.split("\\x").skip(1) {
        match u8::from_str_radix(escape, 16) {
            Ok(byte) if escape.len() == 2 => into.push(byte),
            _ => return false,
        }
    }
    true
}

/// The log-probability of an entry, and whether it was written as a probability: those are taken behind the sampler.
/// `null` is unknown.
fn logprob(item: View<'_>) -> Result<Option<(f64, bool)>, Reason> {
    let number = |field: &'static str| {
        item.get(field)
            .map(|value| {
                value.number().ok_or(Reason::Field {
                    field,
                    wanted: "a number",
                })
            })
            .transpose()
    };
    if let Some(logprob) = number("logprob")? {
        return Ok(Some((logprob, false)));
    }
    Ok(number("prob")?.map(|p| (p.ln(), true)))
}

/// Entries of `token`, `logprob`, `bytes`, `id` with alternatives of the same kind: OpenAI's and llama.cpp's.
fn entry_list<'a>(
    entries: impl Iterator<Item = View<'a>>,
    labels: Labels,
    field: &'static str,
) -> Result<Soft, Reason> {
    let mut teacher = Teacher::default();
    let mut scratch = Scratch::default();
    for (number, entry) in entries.enumerate() {
        if !entry.is_object() {
            return Err(Reason::Field {
                field,
                wanted: "a list of objects, each with a token and a logprob",
            });
        }
        // The oldest form has the token's text under `content` and its probability among the alternatives.
        let alternatives = match list(entry, "top_logprobs")? {
            Some(list) => Some(list),
            None => match list(entry, "top_probs")? {
                Some(list) => Some(list),
                None => list(entry, "probs")?,
            },
        };
        let (id, bytes) = scratch.piece(entry, number)?;
        let mut own = logprob(entry)?;
        if own.is_none()
            && let (Some(name), Some(mut list)) = (entry.get("content").and_then(View::text), alternatives.clone())
        {
            let same = list.find(|a| a.get("tok_str").and_then(View::text) == Some(name));
            own = same.map(logprob).transpose()?.flatten();
        }
        teacher.after_sampling |= own.is_some_and(|(_, sampled)| sampled);
        // A probability of 0 is no probability that a written token can have had.
        let own = own.map(|(l, _)| l).filter(|l| *l != f64::NEG_INFINITY);
        teacher.open(id, bytes, own)?;
        for alternative in alternatives.into_iter().flatten() {
            let (id, bytes) = scratch.piece(alternative, number)?;
            match logprob(alternative)? {
                Some((logprob, sampled)) => {
                    teacher.after_sampling |= sampled;
                    if logprob != f64::NEG_INFINITY {
                        teacher.add(id, bytes, logprob)?;
                    }
                }
                None => {
                    return Err(Reason::Field {
                        field: "logprob",
                        wanted: "a number",
                    });
                }
            }
        }
        teacher.close()?;
    }
    Ok(Soft {
        labels,
        teacher,
        scope: Scope::Answer,
    })
}

/// `tokens`, `token_logprobs` and `top_logprobs` side by side.
fn completions(logprobs: View<'_>) -> Result<Soft, Reason> {
    const FIELD: Reason = Reason::Field {
        field: "logprobs",
        wanted: "lists of tokens, token_logprobs and top_logprobs",
    };
    let tokens = list(logprobs, "tokens")?.ok_or(FIELD)?;
    let count = tokens.clone().count();
    let mut own = list(logprobs, "token_logprobs")?.ok_or(FIELD)?;
    let mut tops = list(logprobs, "top_logprobs")?;
    let lengths = [Some(own.clone().count()), tops.clone().map(Iterator::count)];
    if let Some(other) = lengths.into_iter().flatten().find(|length| *length != count) {
        return Err(Reason::Counts {
            tokens: count,
            logprobs: other,
        });
    }
    let mut teacher = Teacher::default();
    let mut scratch = Scratch::default();
    for token in tokens {
        let (id, bytes) = scratch.text(token.text().ok_or(FIELD)?);
        let logprob = own.next().filter(|l| !l.is_null());
        let logprob = logprob.map(|l| l.number().ok_or(FIELD)).transpose()?;
        teacher.open(id, bytes, logprob)?;
        if let Some(top) = tops.as_mut().and_then(Iterator::next).filter(|top| !top.is_null()) {
            for (name, logprob) in top.entries().ok_or(FIELD)? {
                let (id, bytes) = scratch.text(name);
                teacher.add(id, bytes, logprob.number().ok_or(FIELD)?)?;
            }
        }
        teacher.close()?;
    }
    Ok(Soft {
        labels: Labels::Completions,
        teacher,
        scope: Scope::Answer,
    })
}

/// A list of positions, each a list of alternatives as objects. Which of them was written is not said.
fn axolotl_v1<'a>(positions: impl Iterator<Item = View<'a>>) -> Result<Soft, Reason> {
    const FIELD: Reason = Reason::Field {
        field: "logprobs",
        wanted: "a list of lists of objects, each with a token and a logprob",
    };
    let mut teacher = Teacher::default();
    let mut scratch = Scratch::default();
    for (number, position) in positions.enumerate() {
        teacher.open(None, Spelled::Absent, None)?;
        if !position.is_null() {
            for alternative in position.items().ok_or(FIELD)? {
                if !alternative.is_object() {
                    return Err(FIELD);
                }
                let (id, bytes) = scratch.piece(alternative, number)?;
                let (logprob, _) = logprob(alternative)?.ok_or(FIELD)?;
                teacher.add(id, bytes, logprob)?;
            }
        }
        teacher.close()?;
    }
    Ok(Soft {
        labels: Labels::AxolotlV1,
        teacher,
        scope: Scope::RowEnd,
    })
}

/// The same with ids and log-probabilities in two lists of lists.
fn axolotl_v2<'a>(positions: impl Iterator<Item = View<'a>> + Clone, ids: View<'a>) -> Result<Soft, Reason> {
    const FIELD: Reason = Reason::Field {
        field: "target_token_ids",
        wanted: "lists of ids beside lists of log-probabilities",
    };
    let mut ids = ids.items().ok_or(FIELD)?;
    let (tokens, logprobs) = (ids.clone().count(), positions.clone().count());
    if tokens != logprobs {
        return Err(Reason::Counts { tokens, logprobs });
    }
    let mut teacher = Teacher::default();
    for position in positions {
        teacher.open(None, Spelled::Absent, None)?;
        let here = ids.next().filter(|ids| !ids.is_null());
        if let (Some(here), false) = (here, position.is_null()) {
            let here = here.items().ok_or(FIELD)?;
            let values = position.items().ok_or(FIELD)?;
            let (tokens, logprobs) = (here.clone().count(), values.clone().count());
            if tokens != logprobs {
                return Err(Reason::Counts { tokens, logprobs });
            }
            for (id, logprob) in here.zip(values) {
                let id = id.id().ok_or(FIELD)?;
                teacher.add(Some(id), Spelled::Absent, logprob.number().ok_or(FIELD)?)?;
            }
        }
        teacher.close()?;
    }
    Ok(Soft {
        labels: Labels::AxolotlV2,
        teacher,
        scope: Scope::RowEnd,
    })
}

/// One of SGLang's triples `[logprob, id, text]`.
struct Triple<'a> {
    logprob: Option<f64>,
    id: Option<u32>,
    text: Option<&'a str>,
}

fn triple(value: View<'_>) -> Result<Triple<'_>, Reason> {
    const FIELD: Reason = Reason::Field {
        field: "meta_info",
        wanted: "log-probabilities as triples of a number, an id and a text",
    };
    let mut parts = value.items().ok_or(FIELD)?;
    let (logprob, id) = (parts.next().ok_or(FIELD)?, parts.next().ok_or(FIELD)?);
    let logprob = (!logprob.is_null()).then_some(logprob);
    Ok(Triple {
        logprob: logprob.map(|l| l.number().ok_or(FIELD)).transpose()?,
        id: Some(id.id().ok_or(FIELD)?),
        text: parts.next().and_then(View::text),
    })
}

/// SGLang's `meta_info`. What was generated counts; where nothing was, what was read.
fn sglang(meta: View<'_>) -> Result<Option<Soft>, Reason> {
    for (own, top, scope) in [
        ("output_token_logprobs", "output_top_logprobs", Scope::Answer),
        ("input_token_logprobs", "input_top_logprobs", Scope::Rendering),
    ] {
        let (own, top) = (list(meta, own)?, list(meta, top)?);
        let counts = (own.clone().map(Iterator::count), top.clone().map(Iterator::count));
        let count = match counts {
            (None | Some(0), None | Some(0)) => continue,
            (Some(tokens), Some(logprobs)) if tokens != logprobs && tokens > 0 && logprobs > 0 => {
                return Err(Reason::Counts { tokens, logprobs });
            }
            (tokens, logprobs) => tokens.unwrap_or(0).max(logprobs.unwrap_or(0)),
        };
        let teacher = sglang_tokens(count, own, top)?;
        // Without its own ids or texts, what was read cannot be found in a conversation.
        if scope == Scope::Rendering && teacher.has_absent() {
            continue;
        }
        return Ok(Some(Soft {
            labels: Labels::Sglang,
            teacher,
            scope,
        }));
    }
    Ok(None)
}

fn sglang_tokens<'a>(
    count: usize,
    own: Option<impl Iterator<Item = View<'a>>>,
    top: Option<impl Iterator<Item = View<'a>>>,
) -> Result<Teacher, Reason> {
    let mut own = own.into_iter().flatten();
    let mut top = top.into_iter().flatten();
    let mut teacher = Teacher::default();
    let mut scratch = Scratch::default();
    for _ in 0..count {
        let Triple { logprob, id, text } = match own.next().filter(|own| !own.is_null()) {
            Some(own) => triple(own)?,
            None => Triple {
                logprob: None,
                id: None,
                text: None,
            },
        };
        let bytes = text.map_or(Spelled::Absent, |text| scratch.text(text).1);
        teacher.open(id, bytes, logprob)?;
        let alternatives = top.next().and_then(View::items);
        for alternative in alternatives.into_iter().flatten() {
            let Triple { logprob, id, text } = triple(alternative)?;
            let bytes = text.map_or(Spelled::Absent, |text| scratch.text(text).1);
            if let Some(logprob) = logprob {
                teacher.add(id, bytes, logprob)?;
            }
        }
        teacher.close()?;
    }
    Ok(teacher)
}

/// vLLM's `prompt_logprobs`: per position an object from ids to entries, the first `null`. Which entry is the prompt's own
/// token, the list of ids says; without it, only a position with a single entry is certain.
pub(super) fn prompt_scores<'a>(
    scores: impl Iterator<Item = View<'a>> + Clone,
    ids: Option<impl Iterator<Item = View<'a>> + Clone>,
) -> Result<Soft, Reason> {
    const FIELD: Reason = Reason::Field {
        field: "prompt_logprobs",
        wanted: "a list of objects from token ids to log-probabilities",
    };
    const IDS: Reason = Reason::Field {
        field: "prompt_token_ids",
        wanted: "the ids of the prompt's tokens",
    };
    if let Some(ids) = &ids {
        let (tokens, logprobs) = (ids.clone().count(), scores.clone().count());
        if tokens != logprobs {
            return Err(Reason::Counts { tokens, logprobs });
        }
    }
    let mut ids = ids;
    let mut teacher = Teacher::default();
    let mut scratch = Scratch::default();
    for position in scores {
        let written = match ids.as_mut().and_then(Iterator::next) {
            Some(id) => Some(id.id().ok_or(IDS)?),
            None => None,
        };
        if position.is_null() {
            // Nothing is known of the first token; it spells nothing that an answer needs.
            teacher.open(written, Spelled::Known(b""), None)?;
            teacher.close()?;
            continue;
        }
        let entries = position.entries().ok_or(FIELD)?;
        let mut all = Vec::new();
        for (key, entry) in entries {
            let id: u32 = key.parse().map_err(|_| FIELD)?;
            // Older versions write the bare log-probability.
            let logprob = entry
                .number()
                .or(entry.get("logprob").and_then(View::number))
                .ok_or(FIELD)?;
            let text = entry.get("decoded_token").and_then(View::text);
            all.push((id, logprob, text));
        }
        let written = match (written, all.as_slice()) {
            (Some(id), _) => id,
            (None, [(id, ..)]) => *id,
            _ => return Err(IDS),
        };
        let own = all.iter().find(|(id, ..)| *id == written);
        let bytes = own
            .and_then(|(_, _, text)| *text)
            .map_or(Spelled::Absent, |text| scratch.text(text).1);
        teacher.open(Some(written), bytes, own.map(|(_, logprob, _)| *logprob))?;
        for (id, logprob, text) in &all {
            let bytes = text.map_or(Spelled::Absent, |text| scratch.text(text).1);
            teacher.add(Some(*id), bytes, *logprob)?;
        }
        teacher.close()?;
    }
    Ok(Soft {
        labels: Labels::Vllm,
        teacher,
        scope: Scope::Rendering,
    })
}
