//! Arithmetic and word problems, with the thoughts that lead there. The limit is 100.

use super::Turn;
use super::pen::{NUMBER, Pen, cap};

const PLUS: &str = "[what is A + B|A + B|A+B|A plus B|what is A plus B|how much is A + B|how much is A and B|add A and B|calculate A + B|compute A+B|A + B =|what's A+B|can you add A and B|sum of A and B|what is the sum of A and B|add B to A]";
const MINUS: &str = "[what is A - B|A - B|A-B|A minus B|what is A minus B|how much is A - B|take B from A|subtract B from A|calculate A - B|compute A-B|A - B =|what's A-B|take B away from A|what is A less B|what is left if i take B from A]";
const TIMES: &str = "[what is A times B|A * B|A x B|A times B|what is A * B|how much is A times B|multiply A by B|calculate A * B|A*B|what's A times B|A multiplied by B|the product of A and B]";
const OVER: &str = "[what is A divided by B|A / B|A divided by B|what is A / B|how much is A divided by B|divide A by B|calculate A / B|A/B|share A by B|how often does B go into A]";

fn with(pattern: &str, a: &str, b: &str) -> String {
    pattern.replace('A', a).replace('B', b)
}

/// How an addition is done in writing, where it is not known by heart.
fn think_add(a: i64, b: i64) -> Option<String> {
    if a + b <= 20 {
        return None;
    }
    let (ones, tens) = (a % 10 + b % 10, a / 10 + b / 10);
    let carry = ones / 10;
    let first = if carry == 1 {
        format!("{} + {} = {ones}, write {} and carry 1.", a % 10, b % 10, ones % 10)
    } else {
        format!("{} + {} = {ones}.", a % 10, b % 10)
    };
    let second = if carry == 1 {
        format!("{} + {} + 1 = {}.", a / 10, b / 10, tens + 1)
    } else {
        format!("{} + {} = {tens}.", a / 10, b / 10)
    };
    Some(format!("Ones: {first} Tens: {second} So {}.", a + b))
}

fn think_subtract(a: i64, b: i64) -> Option<String> {
    if a <= 20 {
        return None;
    }
    let borrow = a % 10 < b % 10;
    let first = if borrow {
        format!(
            "{} is less than {}, borrow 10: {} - {} = {}.",
            a % 10,
            b % 10,
            a % 10 + 10,
            b % 10,
            a % 10 + 10 - b % 10
        )
    } else {
        format!("{} - {} = {}.", a % 10, b % 10, a % 10 - b % 10)
    };
    let second = if borrow {
        format!("{} - 1 - {} = {}.", a / 10, b / 10, a / 10 - 1 - b / 10)
    } else {
        format!("{} - {} = {}.", a / 10, b / 10, a / 10 - b / 10)
    };
    Some(format!("Ones: {first} Tens: {second} So {}.", a - b))
}

/// An addition inside longer thoughts.
fn steps_add(a: i64, b: i64) -> String {
    let small = format!("{a} + {b} = {}.", a + b);
    think_add(a, b).map_or(small, |steps| format!("{a} + {b}. {steps}"))
}

fn steps_subtract(a: i64, b: i64) -> String {
    let small = format!("{a} - {b} = {}.", a - b);
    think_subtract(a, b).map_or(small, |steps| format!("{a} - {b}. {steps}"))
}

fn add(a: i64, b: i64) -> (String, Option<String>) {
    (format!("{a} + {b} = **{}**", a + b), think_add(a, b))
}

fn subtract(a: i64, b: i64) -> (String, Option<String>) {
    (format!("{a} - {b} = **{}**", a - b), think_subtract(a, b))
}

fn asked(pen: &mut Pen, question: &str, (answer, think): (String, Option<String>)) -> Turn {
    let mut turn = pen.ask(question, answer);
    turn.think = think;
    turn
}

pub(super) fn sum(pen: &mut Pen) -> Vec<Turn> {
    let plus = pen.chance(0.55);
    let most = if pen.chance(0.4) { 20 } else { 100 };
    let c = pen.range(0, most);
    let b = pen.range(0, c);
    let (a, result) = if plus { (c - b, c) } else { (c, c - b) };
    let pattern = if plus { PLUS } else { MINUS };
    let worded = a <= 20 && b <= 20 && pen.chance(0.2);
    let question = if worded {
        with(pattern, NUMBER[a as usize], NUMBER[b as usize])
    } else {
        with(pattern, &a.to_string(), &b.to_string())
    };
    let mut turns = vec![asked(pen, &question, if plus { add(a, b) } else { subtract(a, b) })];
    if pen.chance(0.2) {
        if pen.chance(0.5) && result < 100 {
            let d = pen.range(1, (100 - result).min(9));
            let q = format!("[and plus {d}|add {d} to that|now add {d}|plus {d}|and {d} more|add {d}]");
            turns.push(asked(pen, &q, add(result, d)));
        } else if result > 0 {
            let d = pen.range(1, result.min(9));
            let q = format!("[and minus {d}|take {d} from that|now subtract {d}|minus {d}|and {d} less|take away {d}]");
            turns.push(asked(pen, &q, subtract(result, d)));
        }
    }
    turns
}

pub(super) fn product(pen: &mut Pen) -> Vec<Turn> {
    let (a, b) = (pen.range(0, 10), pen.range(1, 10));
    if pen.chance(0.55) {
        return vec![pen.ask(
            &with(TIMES, &a.to_string(), &b.to_string()),
            format!("{a} * {b} = **{}**", a * b),
        )];
    }
    let c = a * b;
    vec![
        pen.ask(
            &with(OVER, &c.to_string(), &b.to_string()),
            format!("{c} / {b} = **{a}**"),
        )
        .thinking(format!("{a} * {b} = {c}.")),
    ]
}

pub(super) fn too_big(pen: &mut Pen) -> Vec<Turn> {
    let question = match pen.below(4) {
        0 => with(PLUS, &pen.range(101, 9999).to_string(), &pen.range(2, 999).to_string()),
        1 => with(MINUS, &pen.range(101, 9999).to_string(), &pen.range(2, 99).to_string()),
        2 => with(TIMES, &pen.range(11, 400).to_string(), &pen.range(11, 99).to_string()),
        _ => {
            let (a, b) = (pen.range(20, 400), pen.range(11, 99));
            format!(
                "[what is {a} divided by {b}|{a} / {b}|divide {a} by {b}|the square root of {a}|what is {a} percent of {b}|{a} to the power of {b}|what is {a} squared|the square root of {b}|{b} percent of {a}]"
            )
        }
    };
    vec![pen.ask(&question, TOO_BIG)]
}

/// What is said beyond the limit.
pub const TOO_BIG: &str =
    "That is too much arithmetic for me: I calculate with numbers up to 100. Open a larger student for it.";

const THINGS: [&str; 20] = [
    "apples", "pears", "books", "balls", "coins", "cups", "eggs", "stars", "pens", "cards", "shells", "nuts", "stones",
    "flowers", "keys", "cookies", "tickets", "stamps", "boats", "hats",
];

pub(super) fn word_problem(pen: &mut Pen) -> Vec<Turn> {
    let who = pen.name();
    let thing = *pen.pick(&THINGS);
    let small = pen.chance(0.5);
    let most = if small { 20 } else { 100 };
    let (question, think, answer) = match pen.below(6) {
        0 => {
            let c = pen.range(2, most);
            let a = pen.range(1, c - 1);
            let b = c - a;
            let q = format!(
                "[{who} has {a} {thing} and gets {b} more. How many {thing} does {who} have now?|I have {a} {thing} and get {b} more. How many do I have?|There are {a} {thing} on the table. {who} puts {b} more there. How many are there?|{who} finds {a} {thing} and then {b} more {thing}. How many in all?|{who} buys {a} {thing} on Monday and {b} on Tuesday. How many {thing} is that?]"
            );
            (q, format!("More come: {}", steps_add(a, b)), c)
        }
        1 => {
            let a = pen.range(2, most);
            let b = pen.range(1, a);
            let q = format!(
                "[{who} has {a} {thing} and gives {b} away. How many {thing} are left?|I have {a} {thing} and lose {b}. How many do I have?|There are {a} {thing} on the table. {who} takes {b}. How many are left?|{who} had {a} {thing} and sold {b}. How many does {who} have now?|Of {a} {thing}, {b} are broken. How many are whole?]"
            );
            (q, format!("Some go: {}", steps_subtract(a, b)), a - b)
        }
        2 => {
            let (a, b) = (pen.range(2, 10), pen.range(2, 10));
            let q = format!(
                "[{who} has {a} boxes with {b} {thing} each. How many {thing} are there?|There are {a} bags with {b} {thing} in each. How many {thing} in all?|{a} children have {b} {thing} each. How many {thing} is that?|{who} buys {a} packs of {b} {thing}. How many {thing} does {who} have?]"
            );
            (q, format!("{a} groups of {b}: {a} * {b} = {}.", a * b), a * b)
        }
        3 => {
            let (a, b) = (pen.range(2, 10), pen.range(2, 10));
            let c = a * b;
            let q = format!(
                "[{who} shares {c} {thing} among {a} friends. How many {thing} does each get?|{c} {thing} are put into {a} bags. How many {thing} are in each?|{a} children share {c} {thing}. How many does each one get?]"
            );
            (q, format!("Shared by {a}: {c} / {a} = {b}."), b)
        }
        4 => {
            let (a, b) = (pen.range(2, 10), pen.range(2, 9));
            let c = pen.range(1, (a * b - 1).min(20));
            let left = a * b - c;
            let q = format!(
                "[{who} has {a} boxes with {b} {thing} each and gives {c} away. How many {thing} are left?|There are {a} bags with {b} {thing} in each. {who} takes {c} {thing}. How many are left?]"
            );
            (
                q,
                format!(
                    "{a} groups of {b}: {a} * {b} = {}. Some go: {}",
                    a * b,
                    steps_subtract(a * b, c)
                ),
                left,
            )
        }
        _ => {
            let a = pen.range(1, most / 2);
            let b = pen.range(1, most / 2);
            let c = pen.range(1, a + b);
            let left = a + b - c;
            let q = format!(
                "[{who} has {a} {thing}, gets {b} more and gives {c} away. How many {thing} are left?|There are {a} {thing}. {who} brings {b} more and then takes {c}. How many are there now?|I have {a} {thing}. I buy {b} and lose {c}. How many {thing} do I have?]"
            );
            (
                q,
                format!("More come: {} Some go: {}", steps_add(a, b), steps_subtract(a + b, c)),
                left,
            )
        }
    };
    let user = pen.say(&question);
    vec![Turn {
        user: cap(&user),
        think: Some(think),
        answer: format!("**{answer}** {thing}"),
    }]
}
