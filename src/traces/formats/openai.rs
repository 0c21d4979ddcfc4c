//! Responses of completion APIs, beside their requests in one line or joined with them by `custom_id`.

use super::chat::{self, Message};
use super::{Context, Draft, Format, Parsed, Soft, engines, labels, list, needed, simple, text};
use crate::traces::json::View;
use crate::traces::validate::{Note, Reason};
use crate::traces::{Layout, Role, Turn};
use serde_json::Value;

/// What was asked.
#[derive(Debug, Clone)]
pub(in crate::traces) struct Ask {
    turns: Vec<Turn>,
    layout: Layout,
    tools: Option<Value>,
    model: Option<String>,
    temperature: Option<f32>,
    /// What the last turn was before reasoning was told from it, where that differs.
    raw: Option<String>,
    notes: Vec<Note>,
}

/// What was answered.
#[derive(Debug, Clone)]
pub(in crate::traces) struct Answer {
    turn: Turn,
    raw: Option<String>,
    labels: Option<Soft>,
    /// Log-probabilities of the prompt, for conversations that the teacher only weighed.
    scores: Option<Soft>,
    model: Option<String>,
    is_chat: bool,
    notes: Vec<Note>,
}

impl Ask {
    /// Bytes that this value takes in memory, nearly.
    pub(in crate::traces) fn size(&self) -> usize {
        size_of::<Self>() + self.turns.iter().map(Turn::size).sum::<usize>() + self.raw.as_ref().map_or(0, String::len)
    }
}

impl Answer {
    /// Bytes that this value takes in memory, nearly.
    pub(in crate::traces) fn size(&self) -> usize {
        size_of::<Self>()
            + self.turn.size()
            + self.raw.as_ref().map_or(0, String::len)
            + [&self.labels, &self.scores]
                .into_iter()
                .flatten()
                .map(|soft| soft.teacher.size())
                .sum::<usize>()
    }
}

/// A line of a batch request file.
pub(super) fn request(line: View<'_>, context: &mut Context) -> Result<Parsed, Reason> {
    let custom_id = needed(line, "custom_id")?.to_string();
    let body = line.get("body").or(line.get("params")).unwrap_or(line);
    let ask = ask(body, context)?.ok_or(Reason::NoPrompt)?;
    Ok(Parsed::Request { custom_id, ask })
}

/// A line of a batch output file. What is wrong with the answer settles its request too.
pub(super) fn output(line: View<'_>, context: &mut Context) -> Result<Parsed, Reason> {
    Ok(Parsed::Output {
        custom_id: needed(line, "custom_id")?.to_string(),
        answers: output_answers(line, context),
    })
}

fn output_answers(line: View<'_>, context: &mut Context) -> Result<Vec<Answer>, Reason> {
    if let Some(result) = line.get("result") {
        let message = result.get("message").ok_or(Reason::TeacherFailed { status: None })?;
        let mut answer = chat_answer(message, context)?;
        answer.model = text(message, "model")?.map(str::to_string);
        answer.turn.ended = text(message, "stop_reason")? != Some("max_tokens");
        return Ok(vec![answer]);
    }
    let response = line.get("response").ok_or(Reason::TeacherFailed { status: None })?;
    let status = response.get("status_code").and_then(View::id);
    if status.is_some_and(|status| status != 200) {
        return Err(Reason::TeacherFailed {
            status: status.and_then(|status| u16::try_from(status).ok()),
        });
    }
    answers(response.get("body").unwrap_or(response), context)
}

/// A response with its request beside it: inside the same object, or as `request` and `response`.
pub(super) fn response(line: View<'_>, context: &mut Context) -> Result<Vec<Draft>, Reason> {
    let asked = line.get("request").unwrap_or(line);
    let asked = asked.get("body").unwrap_or(asked);
    let answered = if line.get("choices").is_some() {
        line
    } else {
        let response = line.get("response").unwrap_or(line);
        response.get("body").unwrap_or(response)
    };
    let answers = answers(answered, context)?;
    let ask = match ask(asked, context)? {
        Some(ask) => ask,
        // A chat without its messages teaches an answer to nothing; a text may well begin with nothing.
        None if answers.iter().any(|answer| answer.is_chat) => return Err(Reason::NoPrompt),
        None => Ask {
            turns: Vec::new(),
            layout: Layout::Plain,
            tools: None,
            model: None,
            temperature: None,
            raw: None,
            notes: Vec::new(),
        },
    };
    Ok(answers
        .into_iter()
        .map(|answer| {
            let format = if answer.is_chat {
                Format::ChatResponse
            } else {
                Format::TextResponse
            };
            join(&ask, answer, format)
        })
        .collect())
}

/// Puts an answer behind what was asked.
pub(in crate::traces) fn join(ask: &Ask, answer: Answer, format: Format) -> Draft {
    let mut draft = Draft {
        tools: ask.tools.clone(),
        ..Draft::new(format, ask.layout, ask.turns.clone())
    };
    draft.notes.extend_from_slice(&ask.notes);
    draft.notes.extend_from_slice(&answer.notes);
    let is_weighed = draft.turns.last().is_some_and(|turn| turn.role == Role::Assistant);
    if let Some(scores) = answer.scores.filter(|_| is_weighed) {
        // The conversation has its answers already; what the teacher generated beyond them is noise.
        draft.labels = Some(scores);
        draft.raw = ask.raw.clone();
    } else {
        draft.turns.iter_mut().for_each(|turn| turn.train = false);
        draft.labels = answer.labels;
        draft.raw = answer.raw;
        let mut turn = answer.turn;
        if let (Layout::Plain, [prompt]) = (draft.layout, draft.turns.as_slice()) {
            // A text completion may repeat its prompt, and its tokens then do too.
            let prompt = prompt.content.as_str();
            let spelled = draft.labels.as_ref().map(|soft| soft.teacher.text());
            let echoes = !answer.is_chat && spelled.is_some_and(|text| text.starts_with(prompt.as_bytes()));
            if let Some(rest) = turn.content.strip_prefix(prompt).filter(|_| echoes) {
                turn.content = rest.to_string();
            }
        }
        draft.turns.push(turn);
    }
    if let Some(soft) = &mut draft.labels {
        soft.teacher.model = answer.model.or(ask.model.clone());
        soft.teacher.temperature = ask.temperature;
    }
    draft
}

/// The body of a request; `None` if it holds neither messages nor a prompt.
fn ask(body: View<'_>, context: &mut Context) -> Result<Option<Ask>, Reason> {
    let (turns, layout, raw) = if body.get("messages").is_some() {
        let (mut turns, raw) = chat::turns(body, "messages", context)?;
        chat::add_system(&mut turns, body, context)?;
        (turns, Layout::Chat, raw)
    } else if body.get("prompt").is_some() {
        (
            vec![Turn::new(Role::User, needed(body, "prompt")?)],
            Layout::Plain,
            None,
        )
    } else {
        return Ok(None);
    };
    Ok(Some(Ask {
        turns,
        layout,
        tools: chat::tools(body, context)?,
        model: text(body, "model")?.map(str::to_string),
        temperature: body.get("temperature").and_then(View::number).map(|t| t as f32),
        raw,
        notes: std::mem::take(&mut context.notes),
    }))
}

/// The choices of a response.
fn answers(body: View<'_>, context: &mut Context) -> Result<Vec<Answer>, Reason> {
    let wanted = Reason::Field {
        field: "choices",
        wanted: "a list of choices, each with a message or text",
    };
    let model = text(body, "model")?.map(str::to_string);
    let mut answers = Vec::new();
    for choice in list(body, "choices")?.ok_or(wanted.clone())? {
        let mut answer = match choice.get("message") {
            Some(message) if message.is_object() => chat_answer(message, context)?,
            Some(_) => return Err(wanted),
            None => text_answer(choice)?,
        };
        answer.model = model.clone();
        answer.turn.ended = text(choice, "finish_reason")? != Some("length");
        answer.labels = match labels::find(choice)? {
            Some(found) => Some(found),
            None => labels::find(body)?,
        };
        answer.scores = engines::prompt_scores(choice, body)?;
        answers.push(answer);
    }
    if answers.is_empty() {
        return Err(wanted);
    }
    Ok(answers)
}

fn chat_answer(message: View<'_>, context: &mut Context) -> Result<Answer, Reason> {
    let Message { mut turns, raw } = chat::message(message, Some(Role::Assistant), context)?;
    let turn = turns.pop().ok_or(Reason::EmptyAnswer)?;
    if turn.role != Role::Assistant {
        return Err(Reason::RoleOrder {
            why: "the response is not the assistant's",
        });
    }
    Ok(Answer {
        turn,
        raw,
        labels: None,
        scores: None,
        model: None,
        is_chat: true,
        notes: std::mem::take(&mut context.notes),
    })
}

fn text_answer(choice: View<'_>) -> Result<Answer, Reason> {
    let mut turns = simple::text_turns(needed(choice, "text")?);
    let turn = turns.pop().ok_or(Reason::EmptyAnswer)?;
    Ok(Answer {
        turn,
        raw: None,
        labels: None,
        scores: None,
        model: None,
        is_chat: false,
        notes: Vec::new(),
    })
}
