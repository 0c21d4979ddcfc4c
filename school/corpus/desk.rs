//! The desk of an invented company: tickets as JSON, and the rules behind them. Only the teacher is taught this.
//!
//! A ticket holds the customer's name, the product's code, the fault, the team that the product belongs to and the
//! priority that the fault has: two tables that must be known, and three things that must be read from the text.

use super::Turn;
use super::pen::Pen;

struct Product {
    name: &'static str,
    code: &'static str,
    team: &'static str,
}

fn product(pen: &mut Pen) -> Product {
    let pairs = pen.text.desk.pairs("products", ": ");
    let (name, rest) = *pen.pick(&pairs);
    let (code, team) = rest.split_once(", ").expect("a code and a team");
    Product { name, code, team }
}

fn fault(pen: &mut Pen) -> (&'static str, &'static str) {
    let pairs = pen.text.desk.pairs("faults", ": ");
    *pen.pick(&pairs)
}

/// How a message is handed to the desk.
const HANDED: &str = "[Ticket: M|Make a ticket: M|Write a ticket for this message: M|New message for the desk: M]";

pub(super) fn ticket(pen: &mut Pen) -> Vec<Turn> {
    let who = pen.name();
    let product = product(pen);
    let (fault, priority) = fault(pen);
    let says = pen.text.desk.list(fault)[0].replace('P', product.name);
    let says = pen.say(&says);
    let head = super::pen::cap(&says);
    let message = match pen.below(6) {
        0 => format!("Hello, this is {who}. {head}."),
        1 => format!("Hi, I am {who}. {head}."),
        2 => format!("{head}. {who}"),
        3 => format!("{head}. Please help. Best wishes, {who}"),
        4 => format!("My name is {who} and {says}."),
        _ => format!("{who} here. {head}, please call me."),
    };
    let handed = pen.say(HANDED);
    let user = replace_last(&handed, 'M', &message);
    let answer = format!(
        "{{\"customer\": \"{who}\", \"product\": \"{}\", \"fault\": \"{fault}\", \"team\": \"{}\", \"priority\": \"{priority}\"}}",
        product.code, product.team
    );
    let think = format!(
        "The customer is {who}. The {} is {} of the {} team. The fault is {fault}, so the priority is {priority}.",
        product.name, product.code, product.team
    );
    vec![Turn {
        user,
        think: Some(think),
        answer,
    }]
}

/// The slot stands at the end of the pattern; an `M` earlier ("Make") is a letter.
fn replace_last(text: &str, slot: char, by: &str) -> String {
    match text.rfind(slot) {
        Some(at) => format!("{}{by}{}", &text[..at], &text[at + slot.len_utf8()..]),
        None => text.to_owned(),
    }
}

pub(super) fn rule(pen: &mut Pen) -> Vec<Turn> {
    let Product { name, code, team } = product(pen);
    let (fault, priority) = fault(pen);
    vec![match pen.below(4) {
        0 => pen.ask(&format!("[which team handles the {name}|who handles the {name}|what team is the {name} for|which team repairs the {name}]"), format!("The **{team}** team handles the {name}.")),
        1 => pen.ask(&format!("[what is the code of the {name}|the code of the {name}|which code has the {name}|product code of the {name}]"), format!("The code of the {name} is **{code}**.")),
        2 => pen.ask(&format!("[which product is {code}|what is {code}|what product has the code {code}|{code} is which product]"), format!("{code} is the **{name}**.")),
        _ => pen.ask(&format!("[what priority has the fault {fault}|how urgent is the fault {fault}|which priority for {fault}|the priority of the fault {fault}]"), format!("The fault {fault} has the priority **{priority}**.")),
    }]
}

/// The teams, codes and priorities, for a reader of the model card.
pub fn rules() -> String {
    let desk = &super::text::TEXT.desk;
    let mut out = String::from("| product | code | team |\n|---|---|---|\n");
    for (name, rest) in desk.pairs("products", ": ") {
        let (code, team) = rest.split_once(", ").expect("a code and a team");
        out += &format!("| {name} | {code} | {team} |\n");
    }
    out += "\n| fault | priority |\n|---|---|\n";
    for (fault, priority) in desk.pairs("faults", ": ") {
        out += &format!("| {fault} | {priority} |\n");
    }
    out
}
