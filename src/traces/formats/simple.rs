//! Rows without a conversation: instructions, prompts with completions, text, and generations that were verified.

use super::{Context, Draft, Format, chat, labels, list, needed, text};
use crate::traces::json::View;
use crate::traces::validate::Reason;
use crate::traces::{Layout, Role, Turn};

/// Alpaca. The input follows the instruction after an empty line; `history` holds earlier exchanges.
pub(super) fn alpaca(line: View<'_>, context: &mut Context) -> Result<Draft, Reason> {
    let wanted = Reason::Field {
        field: "history",
        wanted: "a list of pairs of strings",
    };
    let mut turns = Vec::new();
    for pair in list(line, "history")?.into_iter().flatten() {
        let mut sides = pair.items().ok_or(wanted.clone())?;
        let (Some(asked), Some(said), None) = (sides.next(), sides.next(), sides.next()) else {
            return Err(wanted);
        };
        turns.push(Turn::new(Role::User, asked.text().ok_or(wanted.clone())?));
        turns.push(answer(said.text().ok_or(wanted.clone())?).0);
    }
    let mut asked = needed(line, "instruction")?.to_string();
    if let Some(input) = text(line, "input")?.filter(|input| !input.trim().is_empty()) {
        if !asked.is_empty() {
            asked.push_str("\n\n");
        }
        asked.push_str(input);
    }
    turns.push(Turn::new(Role::User, asked));
    let said = match text(line, "output")? {
        Some(said) => said,
        None => needed(line, "response")?,
    };
    let (turn, raw) = answer(said);
    turns.push(turn);
    chat::add_system(&mut turns, line, context)?;
    Ok(Draft {
        labels: labels::of_row(line)?,
        raw,
        ..Draft::new(Format::Alpaca, Layout::Chat, turns)
    })
}

/// `prompt` with `completion` or `response`; either may also be a list of messages. A prompt alone has nothing to train.
pub(super) fn prompt(line: View<'_>, context: &mut Context) -> Result<Draft, Reason> {
    let answer_field = if line.get("completion").is_some() {
        "completion"
    } else {
        "response"
    };
    asked_and_answered(line, "prompt", answer_field, context)
}

/// `question` with `answer` or `response`.
pub(super) fn question(line: View<'_>, context: &mut Context) -> Result<Draft, Reason> {
    let answer_field = if line.get("answer").is_some() {
        "answer"
    } else {
        "response"
    };
    asked_and_answered(line, "question", answer_field, context)
}

fn asked_and_answered(
    line: View<'_>,
    ask_field: &'static str,
    answer_field: &'static str,
    context: &mut Context,
) -> Result<Draft, Reason> {
    let mut turns = if line.get(ask_field).is_some_and(|value| value.items().is_some()) {
        let mut turns = chat::turns(line, ask_field, context)?.0;
        // Answers inside a prompt are its context.
        turns.iter_mut().for_each(|turn| turn.train = false);
        turns
    } else {
        vec![Turn::new(Role::User, needed(line, ask_field)?)]
    };
    let mut raw = None;
    match line.get(answer_field) {
        None => {}
        Some(said) if said.items().is_some() => {
            let (answers, last) = chat::turns(line, answer_field, context)?;
            turns.extend(answers);
            raw = last;
        }
        Some(_) => {
            let (turn, last) = answer(needed(line, answer_field)?);
            turns.push(turn);
            raw = last;
        }
    }
    chat::add_system(&mut turns, line, context)?;
    Ok(Draft {
        tools: chat::tools(line, context)?,
        labels: labels::of_row(line)?,
        raw,
        ..Draft::new(Format::PromptCompletion, Layout::Chat, turns)
    })
}

/// Text to go on writing: all of it is trained.
pub(super) fn text_turns(said: &str) -> Vec<Turn> {
    vec![Turn::new(Role::Assistant, said)]
}

/// `text`.
pub(super) fn plain(line: View<'_>) -> Result<Draft, Reason> {
    Ok(Draft {
        labels: labels::of_row(line)?,
        ..Draft::new(Format::Text, Layout::Plain, text_turns(needed(line, "text")?))
    })
}

/// A problem with several generations: the first that is complete and marked as correct is the answer.
pub(super) fn generations(line: View<'_>) -> Result<Draft, Reason> {
    let flags = |field: &str| -> Vec<bool> {
        let items = line.get(field).and_then(View::items).into_iter().flatten();
        items.map(|flag| flag.bool().unwrap_or(false)).collect()
    };
    let complete = flags("is_reasoning_complete");
    let correct = [flags("correctness_math_verify"), flags("correctness_llama")];
    let all: Vec<_> = list(line, "generations")?.into_iter().flatten().collect();
    let good = |i: &usize| {
        complete.get(*i).copied().unwrap_or(true) && correct.iter().any(|marks| marks.get(*i).copied().unwrap_or(false))
    };
    let Some(best) = (0..all.len()).find(good) else {
        return Err(Reason::Unverified { generations: all.len() });
    };
    let said = all[best].text().ok_or(Reason::Field {
        field: "generations",
        wanted: "a list of strings",
    })?;
    let (turn, raw) = answer(said);
    let turns = vec![Turn::new(Role::User, needed(line, "problem")?), turn];
    Ok(Draft {
        raw,
        ..Draft::new(Format::Generations, Layout::Chat, turns)
    })
}

/// An answer of plain text, with reasoning told from it.
fn answer(said: &str) -> (Turn, Option<String>) {
    let split = crate::traces::reasoning::split(said);
    let mut turn = Turn::new(Role::Assistant, &said[split.content]);
    turn.reasoning = split.reasoning.map(|range| said[range].to_string());
    (turn, split.found.then(|| said.to_string()))
}
