//! Counting, comparing, sorting, units, the calendar, the clock, and spelling.

use super::Turn;
use super::pen::{DAYS, MONTHS, ORDINAL, Pen, cap};

fn row(numbers: impl Iterator<Item = i64>) -> String {
    numbers.map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
}

pub(super) fn sequence(pen: &mut Pen) -> Vec<Turn> {
    let a = pen.range(0, 90);
    let turn = match pen.below(7) {
        0 => {
            let b = a + pen.range(2, 9);
            pen.ask(
                &format!("[count from {a} to {b}|count {a} to {b}|can you count from {a} to {b}|say the numbers from {a} to {b}|list the numbers from {a} to {b}|numbers from {a} to {b}]"),
                row(a..=b),
            )
        }
        1 => {
            let b = a + pen.range(2, 9);
            pen.ask(
                &format!("[count down from {b} to {a}|count backwards from {b} to {a}|count back from {b} to {a}|count from {b} down to {a}|count from {b} to {a}]"),
                row((a..=b).rev()),
            )
        }
        2 => {
            let b = pen.range(2, 12);
            pen.ask(&format!("[count to {b}|can you count to {b}|count up to {b}|count until {b}]"), row(1..=b))
        }
        3 => pen.ask(
            &format!("[what comes after {a}|which number comes after {a}|what number is after {a}|the number after {a}|what is the next number after {a}|what follows {a}]"),
            format!("After {a} comes **{}**.", a + 1),
        ),
        4 => pen.ask(
            &format!("[what comes before {0}|which number comes before {0}|what number is before {0}|the number before {0}]", a + 1),
            format!("Before {} comes **{a}**.", a + 1),
        ),
        5 => pen.ask(
            &format!("[is {a} even or odd|is {a} odd or even|is {a} an even number|is {a} odd|is {a} even]"),
            format!("{a} is **{}**.", if a % 2 == 0 { "even" } else { "odd" }),
        ),
        _ => {
            let (step, start) = (*pen.pick(&[2, 3, 5, 10]), pen.range(0, 40));
            let shown = row((0..4).map(|i| start + i * step));
            pen.ask(
                &format!("[what comes next: {shown}|continue: {shown}|which number is next: {shown}|go on: {shown}|{shown}: what is next]"),
                format!("Each step adds {step}, so **{}** comes next.", start + 4 * step),
            )
        }
    };
    vec![turn]
}

/// Sections whose words are counted and sorted.
const COUNTED: [&str; 6] = ["a animal", "a fruit", "a tool", "a vehicle", "a shape", "names"];

pub(super) fn count_things(pen: &mut Pen) -> Vec<Turn> {
    if pen.chance(0.5) {
        let section = *pen.pick(&COUNTED);
        let n = pen.range(2, 6) as usize;
        let items = pen.words(section, n);
        let line = items.join(*pen.pick(&[", ", ", ", " "]));
        let numbered: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(i, x)| format!("{} {x}", i + 1))
            .collect();
        return vec![
            pen.ask_exact(
                &format!("[how many words are in: {line}|count the words: {line}|how many things are these: {line}|how many words: {line}|count these: {line}]"),
                format!("There are **{n}**."),
            )
            .thinking(format!("{}.", numbered.join(", "))),
        ];
    }
    // A word whose letter is counted.
    let w = pen.word("words");
    let letters: Vec<char> = w.chars().collect();
    let c = *pen.pick(&letters);
    let n = letters.iter().filter(|x| **x == c).count();
    vec![
        pen.ask_exact(
            &format!("[how many times is the letter {c} in {w}|how many {c} are in {w}|count the letter {c} in {w}|how often is {c} in the word {w}]"),
            format!("The letter {c} is **{n}** times in {w}.").replace("**1** times", "**1** time"),
        )
        .thinking(format!("{}.", spaced(w, "-"))),
    ]
}

fn spaced(w: &str, sep: &str) -> String {
    w.chars().map(String::from).collect::<Vec<_>>().join(sep)
}

pub(super) fn compare(pen: &mut Pen) -> Vec<Turn> {
    if pen.chance(0.6) {
        let pair = loop {
            let (a, b) = (pen.range(0, 100), pen.range(0, 100));
            if a != b {
                break (a, b);
            }
        };
        let (a, b) = pair;
        return vec![if pen.chance(0.5) {
            pen.ask(
                &format!("[which is bigger, {a} or {b}|what is more, {a} or {b}|which number is larger, {a} or {b}|{a} or {b}, which is bigger|is {a} or {b} bigger|which is greater, {a} or {b}]"),
                format!("**{}** is bigger.", a.max(b)),
            )
        } else {
            pen.ask(
                &format!("[which is smaller, {a} or {b}|what is less, {a} or {b}|which number is smaller, {a} or {b}|{a} or {b}, which is smaller|is {a} or {b} smaller]"),
                format!("**{}** is smaller.", a.min(b)),
            )
        }];
    }
    let n = pen.range(3, 5) as usize;
    let all: Vec<i64> = (0..100).collect();
    let numbers = pen.sample(&all, n);
    let line = row(numbers.iter().copied());
    let most = pen.chance(0.5);
    let (word, found) = if most {
        ("largest", numbers.iter().max())
    } else {
        ("smallest", numbers.iter().min())
    };
    let found = found.copied().unwrap_or_default();
    vec![pen.ask(
        &format!("[what is the {word} of {line}|which is the {word}: {line}|find the {word} number: {line}|the {word} of these: {line}|which number is the {word}: {line}]"),
        format!("The {word} is **{found}**."),
    )]
}

pub(super) fn sort(pen: &mut Pen) -> Vec<Turn> {
    let n = pen.range(3, 5) as usize;
    if pen.chance(0.5) {
        let all: Vec<i64> = (0..100).collect();
        let mut numbers = pen.sample(&all, n);
        let line = row(numbers.iter().copied());
        let down = pen.chance(0.3);
        numbers.sort_unstable();
        let question = if down {
            numbers.reverse();
            format!(
                "[sort from large to small: {line}|sort down: {line}|sort in falling order: {line}|from the largest to the smallest: {line}]"
            )
        } else {
            format!(
                "[sort {line}|sort these numbers: {line}|put these in order: {line}|sort from small to large: {line}|order these numbers: {line}|can you sort {line}|sort: {line}]"
            )
        };
        let sorted = row(numbers.iter().copied());
        let word = if down { "largest" } else { "smallest" };
        let steps: Vec<_> = (0..n - 1)
            .map(|i| {
                format!(
                    "{word} of {}: {}.",
                    row(left(&line, &numbers[..i]).into_iter()),
                    numbers[i]
                )
            })
            .collect();
        return vec![pen.ask(&question, sorted).thinking(cap(&steps.join(" ")))];
    }
    // Words with different first letters, so that the first letters decide.
    let section = *pen.pick(&COUNTED);
    let mut items: Vec<&str> = Vec::new();
    let list = pen.text.tables.list(section);
    while items.len() < n.min(4) {
        let word = pen.pick(list).as_str();
        if items.iter().all(|x| x[..1].to_lowercase() != word[..1].to_lowercase()) {
            items.push(word);
        }
    }
    let line = items.join(", ");
    let first = |x: &&str| x[..1].to_lowercase();
    let heads: Vec<_> = items.iter().map(first).collect();
    items.sort_by_key(first);
    let ordered: Vec<_> = items.iter().map(first).collect();
    vec![
        pen.ask_exact(
            &format!("[sort by the alphabet: {line}|put in alphabetical order: {line}|sort these words: {line}|alphabetical order: {line}|order these words: {line}|sort the words {line}]"),
            items.join(", "),
        )
        .thinking(format!("First letters: {}. In order: {}.", heads.join(", "), ordered.join(", "))),
    ]
}

/// The numbers of `line` that are not taken yet, as they stood.
fn left(line: &str, taken: &[i64]) -> Vec<i64> {
    line.split(", ")
        .filter_map(|x| x.parse().ok())
        .filter(|x| !taken.contains(x))
        .collect()
}

/// Large unit, small unit, how many, and up to how many of the large one are asked for.
const UNITS: [(&str, &str, &str, &str, i64, i64); 13] = [
    ("hour", "hours", "minute", "minutes", 60, 10),
    ("minute", "minutes", "second", "seconds", 60, 10),
    ("day", "days", "hour", "hours", 24, 4),
    ("week", "weeks", "day", "days", 7, 10),
    ("year", "years", "month", "months", 12, 8),
    ("metre", "metres", "centimetre", "centimetres", 100, 20),
    ("kilometre", "kilometres", "metre", "metres", 1000, 20),
    ("kilogram", "kilograms", "gram", "grams", 1000, 20),
    ("litre", "litres", "millilitre", "millilitres", 1000, 20),
    ("centimetre", "centimetres", "millimetre", "millimetres", 10, 20),
    ("decade", "decades", "year", "years", 10, 20),
    ("century", "centuries", "year", "years", 100, 20),
    ("dollar", "dollars", "cent", "cents", 100, 20),
];

pub(super) fn unit(pen: &mut Pen) -> Vec<Turn> {
    let (one, many, small_one, small, each, most) = *pen.pick(&UNITS);
    let n = pen.range(1, most);
    let total = n * each;
    let large = if n == 1 { one } else { many };
    let are = if n == 1 { "is" } else { "are" };
    let known = format!("1 {one} is {each} {small}.");
    if pen.chance(0.6) {
        return vec![
            pen.ask(
                &format!("[how many {small} are {n} {large}|how many {small} are in {n} {large}|{n} {large} in {small}|convert {n} {large} to {small}|what is {n} {large} in {small}|how many {small} {are} {n} {large}]"),
                format!("{n} {large} {are} **{total}** {small}."),
            )
            .thinking(format!("{known} {n} * {each} = {total}.")),
        ];
    }
    let _ = small_one;
    vec![
        pen.ask(
            &format!("[how many {many} are {total} {small}|{total} {small} in {many}|convert {total} {small} to {many}|what is {total} {small} in {many}]"),
            format!("{total} {small} are **{n}** {large}."),
        )
        .thinking(format!("{known} {total} / {each} = {n}.")),
    ]
}

const LENGTH: [(&str, &str); 12] = [
    ("January", "31"),
    ("February", "28"),
    ("March", "31"),
    ("April", "30"),
    ("May", "31"),
    ("June", "30"),
    ("July", "31"),
    ("August", "31"),
    ("September", "30"),
    ("October", "31"),
    ("November", "30"),
    ("December", "31"),
];

pub(super) fn calendar(pen: &mut Pen) -> Vec<Turn> {
    let (table, one, many): (&[&str], _, _) = if pen.chance(0.6) {
        (&DAYS, "day", "days")
    } else {
        (&MONTHS, "month", "months")
    };
    let n = table.len();
    let i = pen.below(n);
    let at = |k: usize| table[k % n];
    let now = at(i);
    match pen.below(9) {
        0 => {
            let next = at(i + 1);
            let mut turns = vec![pen.ask(
                &format!("[what {one} comes after {now}|which {one} is after {now}|what is the {one} after {now}|what comes after {now}|the {one} after {now}|which {one} follows {now}]"),
                format!("After {now} comes **{next}**."),
            )];
            if pen.chance(0.3) {
                turns.push(pen.ask("[and after that|and then|and the next one|what comes next|and after that one|next]", format!("After {next} comes **{}**.", at(i + 2))));
            }
            turns
        }
        1 => vec![pen.ask(
            &format!("[what {one} comes before {now}|which {one} is before {now}|what is the {one} before {now}|what comes before {now}|the {one} before {now}]"),
            format!("Before {now} comes **{}**.", at(i + n - 1)),
        )],
        2 | 3 => {
            let k = pen.range(2, 6) as usize;
            let forward = pen.chance(0.6);
            let path: Vec<_> = (0..=k).map(|j| if forward { at(i + j) } else { at(i + n * 2 - j) }).collect();
            let end = path[k];
            let way = if forward { "after" } else { "before" };
            vec![
                pen.ask(
                    &format!("[what {one} is {k} {many} {way} {now}|which {one} is {k} {many} {way} {now}|{k} {many} {way} {now}|what comes {k} {many} {way} {now}]"),
                    format!("{k} {many} {way} {now} is **{end}**."),
                )
                .thinking(format!("{}.", path.join(", "))),
            ]
        }
        4 if one == "day" => {
            if pen.chance(0.5) {
                vec![pen.ask(&format!("[today is {now}. what day is tomorrow|if today is {now}, what is tomorrow|it is {now} today, what day is it tomorrow|today is {now}, and tomorrow]"), format!("Tomorrow is **{}**.", at(i + 1)))]
            } else {
                vec![pen.ask(&format!("[today is {now}. what day was yesterday|if today is {now}, what was yesterday|it is {now} today, what day was it yesterday|today is {now}, and yesterday]"), format!("Yesterday was **{}**.", at(i + n - 1)))]
            }
        }
        4 | 5 => {
            let of = if one == "day" { "of the week" } else { "of the year" };
            vec![pen.ask(&format!("[name the {many} {of}|list the {many}|what are the {many} {of}|tell me the {many}|which {many} are there|say all {many}|the {many} {of}, please]"), table.join(", "))]
        }
        6 => {
            let of = if one == "day" { "week" } else { "year" };
            let place = ORDINAL[i];
            vec![pen.ask(
                &format!("[which {one} is the {place}|what is the {place} {one}|the {place} {one}|what is the {place} {one} of the {of}|which is {one} number {}]", i + 1),
                format!("The {place} {one} is **{now}**."),
            )]
        }
        7 => {
            let (month, days) = *pen.pick(&LENGTH);
            let leap = if month == "February" { ", or 29 in a leap year" } else { "" };
            vec![pen.ask(
                &format!("[how many days has {month}|how many days does {month} have|how long is {month}|days in {month}|how many days are in {month}]"),
                format!("{month} has **{days}** days{leap}."),
            )]
        }
        _ => {
            let (a, b) = loop {
                let (a, b) = (pen.below(12), pen.below(12));
                if a != b {
                    break (a, b);
                }
            };
            let first = pen.chance(0.5);
            let (word, which) = if first { ("earlier", a.min(b)) } else { ("later", a.max(b)) };
            let (x, y) = (MONTHS[a], MONTHS[b]);
            vec![pen.ask(
                &format!("[which is {word} in the year, {x} or {y}|which comes {word}, {x} or {y}|what is {word}, {x} or {y}|{x} or {y}, which is {word}]"),
                format!("**{}** is {word} in the year.", MONTHS[which]),
            )]
        }
    }
}

pub(super) fn clock(pen: &mut Pen) -> Vec<Turn> {
    let h = pen.range(1, 12);
    let k = pen.range(1, 9);
    let forward = pen.chance(0.6);
    let end = if forward {
        (h + k - 1) % 12 + 1
    } else {
        (h - k - 1 + 12) % 12 + 1
    };
    let (sign, raw) = if forward { ('+', h + k) } else { ('-', h - k) };
    let around = if (1..=12).contains(&raw) {
        String::new()
    } else {
        format!(" The clock has 12 hours: {end}.")
    };
    let hours = if k == 1 { "hour" } else { "hours" };
    let question = if forward {
        format!(
            "[what time is {k} {hours} after {h} o'clock|it is {h} o'clock. what time is it in {k} {hours}|{k} {hours} after {h} o'clock|what is {h} o'clock plus {k} {hours}]"
        )
    } else {
        format!(
            "[what time is {k} {hours} before {h} o'clock|it is {h} o'clock. what time was it {k} {hours} ago|{k} {hours} before {h} o'clock|what is {h} o'clock minus {k} {hours}]"
        )
    };
    vec![
        pen.ask(&question, format!("It is **{end}** o'clock."))
            .thinking(format!("{h} {sign} {k} = {raw}.{around}")),
    ]
}

/// What stands between letters.
const SEPARATORS: [&str; 3] = ["-", " ", ", "];

/// A word as people write it in a task about letters.
fn quoted(pen: &mut Pen, w: &str) -> String {
    match pen.below(8) {
        0 => format!("'{w}'"),
        1 => format!("\"{w}\""),
        2 => cap(w),
        _ => w.to_owned(),
    }
}

pub(super) fn spell(pen: &mut Pen) -> Vec<Turn> {
    let w = pen.word("words");
    let q = quoted(pen, w);
    let turn = match pen.below(9) {
        0 | 1 => pen
            .ask_exact(
                &format!("[reverse {q}|write {q} backwards|spell {q} backwards|reverse the word {q}|what is {q} backwards|{q} backwards|turn {q} around|what is the reverse of {q}|say {q} in reverse|write {q} in reverse]"),
                w.chars().rev().collect::<String>(),
            )
            .thinking(format!("{}. Back: {}.", spaced(w, "-"), w.chars().rev().map(String::from).collect::<Vec<_>>().join("-"))),
        2 | 3 => pen.ask_exact(
            &format!("[spell {q}|how do you spell {q}|spell the word {q}|can you spell {q}|how is {q} spelled|how is {q} written|what are the letters of {q}]"),
            spaced(w, "-"),
        ),
        4 => pen
            .ask_exact(
                &format!("[how many letters are in {q}|how many letters has {q}|count the letters in {q}|how long is the word {q}|how many letters does {q} have]"),
                format!("The word {w} has **{}** letters.", w.len()),
            )
            .thinking(format!("{}.", w.chars().enumerate().map(|(i, c)| format!("{c} {}", i + 1)).collect::<Vec<_>>().join(", "))),
        5 => pen.ask_exact(
            &format!("[what is the first letter of {q}|first letter of {q}|which letter does {q} start with|what does {q} begin with]"),
            format!("The first letter of {w} is **{}**.", &w[..1]),
        ),
        6 => pen.ask_exact(
            &format!("[what is the last letter of {q}|last letter of {q}|which letter does {q} end with|what does {q} end with]"),
            format!("The last letter of {w} is **{}**.", &w[w.len() - 1..]),
        ),
        7 => {
            let between: &&str = pen.pick(&SEPARATORS);
            let letters = spaced(w, between);
            pen.ask_exact(&format!("[what word is {letters}|which word is spelled {letters}|put the letters together: {letters}|read this: {letters}|{letters} spells]"), format!("It spells **{w}**."))
        }
        _ => {
            let i = pen.below(w.len());
            let place = ORDINAL[i];
            pen.ask_exact(
                &format!("[what is the {place} letter of {q}|the {place} letter of {q}|which letter is the {place} in {q}]"),
                format!("The {place} letter of {w} is **{}**.", &w[i..=i]),
            )
            .thinking(format!("{}.", spaced(w, "-")))
        }
    };
    vec![turn]
}
