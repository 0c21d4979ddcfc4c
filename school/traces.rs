//! Teacher traces: the teacher answers questions of its own domain, in the runner, and what it did is written down in the
//! shapes that traces come in.

use crate::corpus::{self, DESK, Persona, Turn};
use crate::eval::{Open, log_softmax, messages, prompt_ids};
use anyhow::{Result, anyhow, bail};
use serde_json::{Value as Json, json};
use understudy::model::Sampling;
use understudy::student::Request;

/// Alternatives that are written down for each token: the most that the batch format carries.
pub const TOP: usize = 20;

/// What is written.
#[derive(Default)]
pub struct Traces {
    /// OpenAI batch requests, a line each.
    pub requests: Vec<String>,
    /// OpenAI batch outputs with `top_logprobs`.
    pub outputs: Vec<String>,
    /// The same rows as ShareGPT conversations, text only.
    pub conversations: Vec<String>,
    /// The same questions answered with thoughts, as `messages` with `reasoning_content`.
    pub reasoning: Vec<String>,
    /// Questions kept apart, with the right answers, as `messages`.
    pub held_out: Vec<String>,
    /// How many of the teacher's answers were right.
    pub right: usize,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Questions of the desk.
    pub desk: usize,
    /// Questions of what the student knows already, so that it does not forget it.
    pub known: usize,
    /// Questions of the desk that are kept apart.
    pub apart: usize,
    /// The text's seed.
    pub seed: u64,
}

/// Asks the teacher in `file`. Questions never repeat.
pub fn make(file: &[u8], order: Order) -> Result<Traces> {
    let Order { apart, seed, .. } = order;
    let mut model = Open::new(file)?;
    let teacher = Persona::teacher();
    let name = "understudy-lead";
    let mut traces = Traces::default();
    for (i, turn) in lessons(&teacher, order)?.into_iter().enumerate() {
        let chat = messages(None, std::slice::from_ref(&turn));
        let id = format!("desk-{:04}", i + 1);
        let request = json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": {
            "model": name, "messages": [{"role": "user", "content": turn.user}], "logprobs": true, "top_logprobs": TOP, "temperature": 0}});
        traces.requests.push(request.to_string());
        // The teacher thinks first, and its thoughts are not part of the answer: as with the services that it stands for.
        let Told {
            before,
            ids,
            content: answer,
            thoughts,
        } = told(&mut model, &chat)?;
        traces.right += usize::from(answer == turn.answer);
        let prompt = prompt_ids(model.student(), &chat, None)?;
        let context: Vec<u32> = prompt.iter().chain(&before).copied().collect();
        let marks = probabilities(&mut model, &context, &ids)?;
        let output = json!({"id": format!("batch_req_{:04}", i + 1), "custom_id": id, "response": {"status_code": 200, "request_id": format!("req_{:04}", i + 1), "body": {
            "id": format!("chatcmpl-{:04}", i + 1), "object": "chat.completion", "created": 0, "model": name,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": answer, "refusal": null}, "logprobs": {"content": marks, "refusal": null}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": prompt.len(), "completion_tokens": ids.len(), "total_tokens": prompt.len() + ids.len()}}}, "error": null});
        traces.outputs.push(output.to_string());
        traces.conversations.push(
            json!({"conversations": [{"from": "human", "value": turn.user}, {"from": "gpt", "value": answer}]})
                .to_string(),
        );
        let mut said = json!({"role": "assistant", "content": answer});
        if !thoughts.is_empty() {
            said["reasoning_content"] = Json::String(thoughts);
        }
        traces
            .reasoning
            .push(json!({"messages": [{"role": "user", "content": turn.user}, said]}).to_string());
    }
    // Kept questions are kept from the teacher's training too; their answers are the rules', not the teacher's.
    let half = [apart - apart / 2, apart / 2];
    for (skill, count) in DESK.iter().zip(half) {
        let kept = corpus::kept(skill, &teacher, seed, count);
        if kept.len() < count {
            bail!("only {} of {count} questions could be kept apart", kept.len());
        }
        for turn in kept.into_iter().flatten() {
            let row = json!({"messages": [{"role": "user", "content": turn.user}, {"role": "assistant", "content": turn.answer}]});
            traces.held_out.push(row.to_string());
        }
    }
    Ok(traces)
}

/// Tickets and rules in turn, and questions of what is known already spread among them; none kept, none twice.
///
/// A rule is no consequence of tickets for a network: what is to be answered must be asked, so both get as many rows.
fn lessons(teacher: &Persona, order: Order) -> Result<Vec<Turn>> {
    let Order { desk, known, seed, .. } = order;
    let count = desk + known;
    if count == 0 {
        bail!("traces of no rows teach nothing: ask for at least one");
    }
    let (mut found, mut asked): (Vec<Turn>, usize) = (Vec::new(), 0);
    for part in 0..count as u64 * 40 {
        if found.len() == count {
            return Ok(found);
        }
        // As many of the known as their share of the rows so far.
        let of_desk = (found.len() + 1) * known / count <= found.len() - asked;
        let turns = if of_desk {
            corpus::drawn(&DESK[asked % DESK.len()], teacher, seed ^ 0x7_2ace, part)
        } else {
            corpus::known(teacher, seed ^ 0x7_2ace, part)
        };
        // One exchange a row: the first of a chat needs nothing before it.
        let Some(turn) = turns.into_iter().next() else { continue };
        if !corpus::held_out(&turn.user) && found.iter().all(|t| t.user != turn.user) {
            asked += usize::from(of_desk);
            found.push(turn);
        }
    }
    bail!("the desk has no {desk} different questions: ask for fewer")
}

/// A greedy answer.
struct Told {
    /// Tokens of the thoughts and their marks.
    before: Vec<u32>,
    /// Tokens of the answer, without the one that ends it.
    ids: Vec<u32>,
    content: String,
    thoughts: String,
}

fn told(model: &mut Open, chat: &[understudy::text::template::Message]) -> Result<Told> {
    let request = Request {
        sampling: Sampling::GREEDY,
        max_tokens: Some(400),
        ..Request::chat(chat.to_vec())
    };
    let answer = pollster::block_on(model.student().generate(&request, |_| false)).map_err(|e| anyhow!("{e}"))?;
    let tokenizer = model.student().tokenizer();
    let mut before = answer.ids;
    if before.last().is_some_and(|id| tokenizer.is_end(*id)) {
        before.pop();
    }
    let mark = tokenizer.token_id("</think>");
    let mut at = before.iter().position(|id| Some(*id) == mark).map_or(0, |at| at + 1);
    while at > 0
        && before
            .get(at)
            .is_some_and(|id| tokenizer.piece(*id).iter().all(u8::is_ascii_whitespace))
    {
        at += 1;
    }
    Ok(Told {
        ids: before.split_off(at),
        before,
        content: answer.content.trim().to_owned(),
        thoughts: answer.reasoning.trim().to_owned(),
    })
}

/// `logprobs.content` of an answer.
fn probabilities(model: &mut Open, prompt: &[u32], answer: &[u32]) -> Result<Vec<Json>> {
    let student = model.student();
    let vocabulary = student.plan().config.vocabulary;
    let all: Vec<u32> = prompt.iter().chain(answer).copied().collect();
    let logits = pollster::block_on(student.logits(&all)).map_err(|e| anyhow!("{e}"))?;
    let one = |id: u32, row: &[f32]| -> Json {
        let bytes = match student.tokenizer().token_text(id) {
            Some(text) if crate::tokenizer::SPECIAL.contains(&text) => text.as_bytes().to_vec(),
            _ => student.tokenizer().piece(id).to_vec(),
        };
        let logprob = (log_softmax(row, id as usize) * 1e5).round() / 1e5;
        json!({"token": String::from_utf8_lossy(&bytes), "logprob": logprob, "bytes": bytes})
    };
    let marks = answer.iter().enumerate().map(|(i, id)| {
        let at = prompt.len() + i - 1;
        let row = &logits[at * vocabulary..(at + 1) * vocabulary];
        let mut order: Vec<u32> = (0..vocabulary as u32).collect();
        order.select_nth_unstable_by(TOP, |a, b| row[*b as usize].total_cmp(&row[*a as usize]));
        order.truncate(TOP);
        order.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]));
        let mut mark = one(*id, row);
        mark["top_logprobs"] = order.iter().map(|id| one(*id, row)).collect();
        mark
    });
    Ok(marks.collect())
}
