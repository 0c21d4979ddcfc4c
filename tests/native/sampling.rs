//! Penalties, DRY, biases, typical-p and log-probabilities: worked out by hand, and in whole answers on both engines.

use crate::gpu::meet;
use crate::student::{answer, bundled, devices, greedy, open, user};
use std::collections::BTreeSet;
use understudy::gpu::GpuOptions;
use understudy::model::chance::Numbers;
use understudy::model::logprobs::Logprob;
use understudy::model::penalties::{Breakers, adjust};
use understudy::model::sampler::sample;
use understudy::model::{Dry, Penalties, Sampling};
use understudy::student::{Engine, Event, Prompt, Request};
use understudy::text::breakers::breakers;

#[test]
fn penalties_are_those_worked_out_by_hand() {
    let mut penalties = Penalties {
        repeat: 2.0,
        presence: 0.25,
        frequency: 0.5,
        last_n: Some(3),
        bias: vec![(1, 2.0), (4, -1.5)],
        ..Penalties::default()
    };
    let moved = |penalties: &Penalties| {
        let mut logits = [2.0, 1.0, -1.0, 4.0, 0.5];
        adjust(&mut logits, &penalties.adjustments(&Breakers::new(), &[1, 2, 1, 3]));
        logits
    };
    // 1: (1 + 2) / 2 - 0.75; 2: -1 * 2 - 0.75; 3: 4 / 2 - 0.75; 4: only its bias.
    assert_eq!(moved(&penalties), [2.0, 0.75, -2.75, 1.25, -1.0]);
    // Token 1 came twice: (1 + 2) / 2 - 2 * 0.5 - 0.25.
    penalties.last_n = None;
    assert_eq!(moved(&penalties), [2.0, 0.25, -2.75, 1.25, -1.0]);
    penalties.last_n = Some(0);
    assert_eq!(moved(&penalties), [2.0, 3.0, -1.0, 4.0, -1.0]);
    assert!(Penalties::default().is_off());
    assert_eq!(moved(&Penalties::default()), [2.0, 1.0, -1.0, 4.0, 0.5]);
}

/// What DRY takes off behind `tokens`.
fn dry(dry: &Dry, breakers: &[(u32, &[u32])], tokens: &[u32]) -> Vec<(u32, f32)> {
    let mut map = Breakers::new();
    for (head, tail) in breakers {
        map.entry(*head).or_default().push(tail.to_vec());
    }
    let penalties = Penalties {
        dry: dry.clone(),
        ..Penalties::default()
    };
    let list = penalties.adjustments(&map, tokens);
    list.iter().map(|entry| (entry.id, entry.minus)).collect()
}

#[test]
fn dry_is_the_one_worked_out_by_hand() {
    const A: u32 = 1;
    const B: u32 = 2;
    const C: u32 = 3;
    const Y: u32 = 4;
    let tokens = [A, B, C, C, B, C, Y, A, B, C];
    let on = Dry {
        multiplier: 0.5,
        base: 2.0,
        ..Dry::default()
    };
    // "a b c" came before and went on with c: 3 tokens; "b c" went on with y: 2; "c" alone is too short.
    assert_eq!(dry(&on, &[], &tokens), [(C, 1.0), (Y, 0.5)]);
    let longer = Dry {
        allowed_length: 3,
        ..on.clone()
    };
    assert_eq!(dry(&longer, &[], &tokens), [(C, 0.5)]);
    // Behind a there are two tokens; y itself is never held off; c alone is shorter than two.
    assert_eq!(dry(&on, &[(A, &[])], &tokens), [(C, 0.5), (Y, 0.5)]);
    assert_eq!(dry(&on, &[(Y, &[])], &tokens), [(C, 1.0)]);
    assert_eq!(dry(&on, &[(B, &[])], &tokens), []);
    // A text of two tokens: a b, behind which there is one. The longer one of two counts.
    assert_eq!(dry(&on, &[(A, &[B])], &tokens), []);
    assert_eq!(dry(&on, &[(A, &[C]), (Y, &[B])], &tokens), [(C, 1.0), (Y, 0.5)]);
    // The window: seven tokens hold "b c" twice and "a b c" once.
    let near = Dry {
        last_n: Some(7),
        ..on.clone()
    };
    assert_eq!(dry(&near, &[], &tokens), [(Y, 0.5)]);
    // What grows without end stays finite.
    let steep = Dry {
        base: 100.0,
        ..on.clone()
    };
    let [(A, most)] = dry(&steep, &[], &[A; 500])[..] else {
        panic!("one token came")
    };
    assert!(most.is_finite() && most > 1e6);
    assert_eq!(dry(&Dry::default(), &[], &tokens), []);
}

#[test]
fn dry_finds_what_a_plain_search_finds() {
    let mut numbers = Numbers(4);
    let on = Dry {
        multiplier: 1.0,
        base: 1.5,
        ..Dry::default()
    };
    for case in 0..300 {
        let tokens: Vec<u32> = (0..1 + case % 60).map(|_| numbers.below(3) as u32).collect();
        let mut longest = [0; 3];
        for next in 1..tokens.len() {
            let shared = |n: usize| n <= next && tokens[next - n..next] == tokens[tokens.len() - n..];
            let length = (0..=next).filter(|&n| shared(n)).max().unwrap();
            longest[tokens[next] as usize] = longest[tokens[next] as usize].max(length);
        }
        let expected: Vec<(u32, f32)> = (0..3)
            .filter(|&id| longest[id] >= 2 && tokens.len() > 2)
            .map(|id| (id as u32, 1.5f32.powf(longest[id] as f32 - 2.0)))
            .collect();
        assert_eq!(dry(&on, &[], &tokens), expected, "{tokens:?}");
    }
}

#[test]
fn breakers_are_found_inside_of_tokens() {
    let student = open(bundled(), None);
    let tokenizer = student.tokenizer();
    let found = breakers(tokenizer, &["\n".into(), "Hello there".into(), String::new()]).unwrap();
    for id in 0..tokenizer.vocab_size() as u32 {
        let has = String::from_utf8_lossy(tokenizer.piece(id)).contains('\n');
        assert_eq!(
            found.get(&id).is_some_and(|tails| tails.contains(&Vec::new())),
            has,
            "{id}"
        );
    }
    // A longer text begins in some token and goes on with what is left of it.
    let whole = tokenizer.encode("Hello there", false, false).unwrap();
    println!("{whole:?}: {:?}", found[&whole[0]]);
    let parts: Vec<String> = found[&whole[0]].iter().map(|tail| tokenizer.decode(tail)).collect();
    let first = tokenizer.decode(&whole[..1]);
    assert!(
        parts.iter().any(|tail| format!("{first}{tail}") == "Hello there"),
        "{parts:?}"
    );
}

/// Every token that 400 draws gave.
fn drawn(logits: &[f32], sampling: Sampling) -> BTreeSet<u32> {
    (0..400).map(|draw| sample(logits, &sampling, draw)).collect()
}

#[test]
fn the_most_typical_tokens_are_kept() {
    // Surprise 0.69, 1.20, 1.90, 3.00; its mean is 1.14: the second is the most typical, then the first, third and fourth.
    let logits = [0.5f32, 0.3, 0.15, 0.05].map(|p| p.ln() + 2.0);
    let of = |typical_p: f32, top_p: f32| {
        let sampling = Sampling {
            temperature: 1.0,
            top_k: 0,
            typical_p,
            top_p,
            min_p: 0.0,
            seed: 5,
        };
        drawn(&logits, sampling)
    };
    assert_eq!(of(0.0, 1.0), [1].into());
    assert_eq!(of(0.2, 1.0), [1].into());
    assert_eq!(of(0.4, 1.0), [0, 1].into());
    assert_eq!(of(0.9, 1.0), [0, 1, 2].into());
    assert_eq!(of(1.0, 1.0), [0, 1, 2, 3].into());
    // Typical-p comes before top-p: of the two that are left the first has 0.625.
    assert_eq!(of(0.4, 0.6), [0].into());
    assert_eq!(of(1.0, 0.6), [0, 1].into());
    // At temperature 0 no filter plays a part.
    let greedy = Sampling {
        typical_p: 0.1,
        ..Sampling::GREEDY
    };
    assert_eq!(drawn(&logits, greedy), [0].into());
}

#[test]
fn log_probabilities_are_those_of_the_softmax() {
    let share = [0.15f32, 0.5, 0.05, 0.3];
    let logits = share.map(|p| p.ln() - 7.0);
    let told = Logprob::of(&logits, 2, 2);
    assert!((told.logprob - share[2].ln()).abs() < 1e-5);
    assert_eq!(told.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3]);
    assert!(
        told.top
            .iter()
            .all(|(id, p)| (p - share[*id as usize].ln()).abs() < 1e-5)
    );
    assert!(Logprob::of(&logits, 0, 0).top.is_empty());
    assert_eq!(Logprob::of(&logits, 0, 9).top.len(), 4);
    // Equals by id.
    let equals: Vec<u32> = Logprob::of(&[1.0; 6], 5, 3).top.iter().map(|(id, _)| *id).collect();
    assert_eq!(equals, [0, 1, 2]);
}

fn penalized() -> Penalties {
    Penalties {
        repeat: 1.2,
        presence: 0.3,
        frequency: 0.2,
        last_n: Some(32),
        dry: Dry {
            multiplier: 0.8,
            ..Dry::default()
        },
        bias: vec![(20, 1.5), (30, -2.0)],
    }
}

/// A greedy answer under penalties, held against the student's own logits, token by token.
#[test]
fn a_penalized_answer_is_what_its_logits_say() {
    let mut answers = Vec::new();
    for gpu in devices("a_penalized_answer_is_what_its_logits_say") {
        let mut student = open(bundled(), gpu.as_ref());
        let plain = Request {
            ignore_end: true,
            ..greedy(Prompt::Messages(vec![user("Tell me a story.")]), 48)
        };
        let free = answer(&mut student, &plain);
        let request = Request {
            penalties: penalized(),
            logprobs: Some(3),
            ..plain.clone()
        };
        let mut told = Vec::new();
        let moved = pollster::block_on(student.generate(&request, |event| {
            if let Event::Token(logprob, _) = event {
                told.push(logprob.clone());
            }
            false
        }))
        .unwrap();
        assert_ne!(moved.ids, free.ids);
        assert_eq!(moved.logprobs, told);
        // Nothing of the penalties is left behind, and nothing but the answer's own tokens was told.
        let again = answer(&mut student, &plain);
        assert_eq!((again.ids, again.logprobs.len()), (free.ids, 0));

        let (mut ids, _) = student.prompt_tokens(&plain.prompt, None, None, None).unwrap();
        let prompt = ids.len();
        ids.extend(&moved.ids);
        let rows = pollster::block_on(student.logits(&ids)).unwrap();
        let vocabulary = student.plan().config.vocabulary;
        let breakers = breakers(student.tokenizer(), &request.penalties.dry.breakers).unwrap();
        let mut repeats = 0;
        for (i, &id) in moved.ids.iter().enumerate() {
            let row = &rows[(prompt + i - 1) * vocabulary..(prompt + i) * vocabulary];
            let list = request.penalties.adjustments(&breakers, &ids[..prompt + i]);
            repeats += usize::from(list.iter().any(|entry| entry.minus > 0.5));
            let mut row_moved = row.to_vec();
            adjust(&mut row_moved, &list);
            assert_eq!(sample(&row_moved, &Sampling::GREEDY, 0), id, "token {i}");
        }
        assert!(repeats > 20, "the penalties had something to do");
        // Told tokens are all but ends, in order, with the student's own probabilities.
        let open: Vec<usize> = (0..moved.ids.len())
            .filter(|&i| !student.tokenizer().is_end(moved.ids[i]))
            .collect();
        for (logprob, i) in told.iter().zip(&open) {
            let row = &rows[(prompt + i - 1) * vocabulary..(prompt + i) * vocabulary];
            let expected = Logprob::of(row, moved.ids[*i], 3);
            assert_eq!(logprob.id, expected.id);
            assert!(
                (logprob.logprob - expected.logprob).abs() < 2e-3,
                "{logprob:?} {expected:?}"
            );
            for (a, b) in logprob.top.iter().zip(&expected.top) {
                assert!((a.1 - b.1).abs() < 2e-3, "{logprob:?} {expected:?}");
            }
        }
        answers.push(moved.ids);
    }
    assert!(answers.iter().all(|ids| ids == &answers[0]));
}

#[test]
fn both_engines_draw_the_same_with_everything_on() {
    let mut answers = Vec::new();
    for gpu in devices("both_engines_draw_the_same_with_everything_on") {
        let mut student = open(bundled(), gpu.as_ref());
        let mut request = Request {
            sampling: Sampling {
                temperature: 0.9,
                typical_p: 0.8,
                seed: 21,
                ..Sampling::default()
            },
            penalties: penalized(),
            max_tokens: Some(40),
            ignore_end: true,
            ..Request::chat(vec![user("Tell me a story.")])
        };
        let first = answer(&mut student, &request).ids;
        assert_eq!(answer(&mut student, &request).ids, first, "a seed replays");
        request.sampling.typical_p = 1.0;
        let without = answer(&mut student, &request).ids;
        answers.push((first, without));
    }
    println!("{answers:?}");
    assert!(answers.iter().all(|ids| ids == &answers[0]));
}

#[test]
fn biases_force_and_forbid() {
    for gpu in devices("biases_force_and_forbid") {
        let mut student = open(bundled(), gpu.as_ref());
        let mut request = greedy(Prompt::Messages(vec![user("Hello! Who are you?")]), 6);
        request.ignore_end = true;
        let free = answer(&mut student, &request).ids;
        request.penalties.bias = vec![(free[0], -100.0)];
        let without = answer(&mut student, &request).ids;
        assert!(!without.contains(&free[0]));
        request.penalties.bias = vec![(77, 100.0)];
        assert_eq!(answer(&mut student, &request).ids, [77; 6]);
        // A form holds, whatever is wished for.
        request.ignore_end = false;
        request.format = Some(understudy::text::grammar::Format::Regex("[0-9]{4}".into()));
        let digits = answer(&mut student, &request);
        assert!(
            digits.content.bytes().all(|byte| byte.is_ascii_digit()),
            "{}",
            digits.content
        );
    }
}

#[test]
fn what_is_asked_for_costs_one_dispatch_and_makes_nothing_for_a_token() {
    let name = "what_is_asked_for_costs_one_dispatch_and_makes_nothing_for_a_token";
    let Some(gpu) = meet(name, GpuOptions::default()) else {
        return;
    };
    let mut student = open(bundled(), Some(&gpu));
    let plain = Request {
        ignore_end: true,
        ..greedy(Prompt::Messages(vec![user("Tell me a story.")]), 20)
    };
    let dispatches = match student.engine() {
        Engine::Gpu(engine) => engine.dispatches_per_token() as u64,
        Engine::Cpu(_) => panic!("it was opened on the device"),
    };
    let penalties = Request {
        penalties: penalized(),
        ..plain.clone()
    };
    let logprobs = Request {
        logprobs: Some(5),
        ..plain
    };
    for (request, more) in [(penalties, 1), (logprobs, 0)] {
        let (mut before, mut used) = (gpu.counts(), None);
        pollster::block_on(student.generate(&request, |event| {
            if let Event::Text { tokens, .. } = event {
                if tokens == 2 {
                    before = gpu.counts();
                } else if tokens > 2 {
                    used = Some((gpu.counts() - before, tokens as u64 - 2));
                }
            }
            false
        }))
        .unwrap();
        let (used, tokens) = used.unwrap();
        println!("{tokens} tokens: {used:?}");
        assert_eq!((used.buffers, used.bind_groups, used.pipelines), (0, 0, 0));
        assert_eq!(used.submissions, tokens);
        assert_eq!(used.dispatches, tokens * (dispatches + more));
    }
}

#[test]
fn settings_outside_their_range_are_refused_by_name() {
    let mut student = open(bundled(), None);
    let off = Penalties::default();
    let with = |change: &dyn Fn(&mut Penalties)| {
        let mut penalties = off.clone();
        change(&mut penalties);
        penalties
    };
    let dry = |change: &dyn Fn(&mut Dry)| with(&|p| change(&mut p.dry));
    for (penalties, name) in [
        (with(&|p| p.repeat = 0.0), "repeat_penalty"),
        (with(&|p| p.repeat = f32::NAN), "repeat_penalty"),
        (with(&|p| p.presence = 2.5), "presence_penalty"),
        (with(&|p| p.frequency = -2.5), "frequency_penalty"),
        (dry(&|d| d.multiplier = -1.0), "dry_multiplier"),
        (dry(&|d| d.base = 0.5), "dry_base"),
        (dry(&|d| d.allowed_length = 0), "dry_allowed_length"),
        (dry(&|d| d.breakers = vec!["a".into(); 65]), "dry_sequence_breakers"),
        (with(&|p| p.bias = vec![(1, 101.0)]), "logit_bias"),
        (with(&|p| p.bias = vec![(1 << 30, 1.0)]), "logit_bias"),
    ] {
        let request = Request {
            penalties,
            ..Request::chat(vec![user("Hi")])
        };
        let error = pollster::block_on(student.generate(&request, |_| false)).unwrap_err();
        assert_eq!(error.code(), "bad-request");
        assert!(error.to_string().contains(name), "{error}");
    }
    for (sampling, logprobs, name) in [
        (
            Sampling {
                typical_p: 1.5,
                ..Sampling::default()
            },
            None,
            "typical_p",
        ),
        (Sampling::default(), Some(21), "top_logprobs"),
    ] {
        let request = Request {
            sampling,
            logprobs,
            ..Request::chat(vec![user("Hi")])
        };
        let error = pollster::block_on(student.generate(&request, |_| false)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}
