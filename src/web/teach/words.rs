//! What the facade says and is told, as JavaScript objects: www/understudy.d.ts has the same from the other side.

use crate::distill::lesson::Reasoning;
use crate::distill::reading::Refused;
use crate::distill::session::{Measure, StepReport};
use crate::error::{Error, Result};
use crate::text::template::Message;
use crate::traces::Format;
use crate::traces::report::{Listed, Picture};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct BeginOptions {
    pub reasoning: Option<ReasoningWords>,
    pub longest: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum ReasoningWords {
    Name(String),
    Characters(f64),
}

impl ReasoningWords {
    pub fn read(&self) -> Result<Reasoning> {
        match self {
            Self::Name(name) if name == "keep" => Ok(Reasoning::Keep),
            Self::Name(name) if name == "strip" => Ok(Reasoning::Strip),
            Self::Characters(n) if *n >= 1.0 && n.is_finite() => Ok(Reasoning::Shorten(*n as usize)),
            _ => Err(Error::Request {
                what: "reasoning is 'keep', 'strip' or a number of characters".into(),
            }),
        }
    }
}

#[derive(Serialize)]
pub struct StudentWords {
    pub name: Option<String>,
    pub architecture: &'static str,
    pub parameters: f64,
    pub layers: usize,
    pub context_trained: usize,
}

#[derive(Serialize)]
pub struct FileWords<'a> {
    pub name: &'a str,
    pub lines: usize,
    pub rows: usize,
    pub rejected: usize,
    pub format: Option<Format>,
    pub unreadable: Option<&'a str>,
}

#[derive(Serialize)]
pub struct ReportWords<'a> {
    pub sentences: Vec<String>,
    pub files: Vec<FileWords<'a>>,
    pub rows: usize,
    pub rejected: usize,
    pub listed: &'a [Listed],
    pub lessons: usize,
    pub unfit: &'a [Refused],
    pub unfit_count: usize,
    pub tokens: usize,
    pub trained: usize,
    pub cut_rows: usize,
    pub longest: usize,
    pub soft_tokens: usize,
    pub coverage: f64,
    pub mass: f64,
    pub picture: Picture,
    pub traces_sha256: &'a str,
}

#[derive(Serialize)]
pub struct Origin {
    pub file: usize,
    pub line: usize,
}

#[derive(Serialize)]
pub struct Piece<'a> {
    pub text: &'a str,
    pub trained: bool,
    pub p: Option<f64>,
    pub top: Option<Vec<(String, f64)>>,
    pub student: Option<StudentThinks>,
}

#[derive(Serialize)]
pub struct StudentThinks {
    pub p: f64,
    pub top: Vec<(String, f64)>,
}

#[derive(Serialize)]
pub struct Preview<'a> {
    pub origin: Origin,
    pub held_out: bool,
    pub pieces: Vec<Piece<'a>>,
}

#[derive(Serialize)]
pub struct PlanWords {
    pub fits: bool,
    pub words: String,
    pub suggestion: Option<String>,
    pub total_bytes: f64,
    pub available_bytes: f64,
    pub items: Vec<(&'static str, f64)>,
    pub micro_batch: usize,
    pub tokens_per_step: f64,
    pub taught: usize,
    pub apart: usize,
}

#[derive(Serialize)]
pub struct Prepared<'a> {
    pub taught: usize,
    pub apart: usize,
    pub before: &'a Measure,
    pub generic_before: &'a Measure,
}

#[derive(Serialize)]
pub struct StepWords {
    #[serde(flatten)]
    pub report: StepReport,
    pub memory_bytes: f64,
    pub milliseconds: f64,
}

#[derive(Serialize, Clone)]
pub struct Change {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

#[derive(Serialize)]
pub struct HeldOut<'a> {
    pub before: &'a Measure,
    pub after: &'a Measure,
    pub change: Option<Change>,
    pub within_noise: bool,
    pub kl_change: Option<Change>,
}

#[derive(Serialize)]
pub struct Forgetting<'a> {
    pub before: &'a Measure,
    pub after: &'a Measure,
    pub kl_to_base: f64,
    pub change: Option<Change>,
    pub within_noise: bool,
}

#[derive(Serialize)]
pub struct Verdict<'a> {
    pub held_out: HeldOut<'a>,
    pub forgetting: Forgetting<'a>,
    pub sentences: Vec<String>,
}

#[derive(Serialize)]
pub struct Question {
    pub messages: Vec<Message>,
    pub answer: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct About {
    pub name: String,
    pub base: Option<String>,
    pub teacher: Option<String>,
    pub terms: Option<String>,
    pub base_sha256: Option<String>,
}
