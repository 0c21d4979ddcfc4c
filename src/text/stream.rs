//! An answer while it grows: whole characters only, stop strings held back, reasoning told from content.

/// What is new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Part of the answer.
    pub content: String,
    /// Part of the reasoning in front of it.
    pub reasoning: String,
    /// A stop string came: nothing will follow.
    pub stopped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Nothing but white space yet: an opening tag may still come.
    Start,
    /// Behind the opening tag: line ends there belong to nobody.
    BeforeReasoning,
    Reasoning,
    /// Behind the closing tag: leading white space belongs to nobody.
    AfterReasoning,
    Content,
}

/// Turns the bytes of tokens into deltas.
#[derive(Debug, Clone)]
pub struct Stream {
    stops: Vec<String>,
    /// Bytes that are not whole characters yet.
    bytes: Vec<u8>,
    /// Text that may still become a stop string or a tag.
    held: String,
    part: Part,
    stopped: bool,
    /// The tags around reasoning.
    open: String,
    close: String,
}

impl Stream {
    /// `stops` end the answer and are not part of it; `starts_in_think`: the prompt has opened `<think>` already.
    pub fn new(stops: &[String], starts_in_think: bool) -> Self {
        Self {
            stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(),
            bytes: Vec::new(),
            held: String::new(),
            part: if starts_in_think {
                Part::BeforeReasoning
            } else {
                Part::Start
            },
            stopped: false,
            open: "<think>".into(),
            close: "</think>".into(),
        }
    }

    /// With other tags around the reasoning than `<think>` and `</think>`.
    pub fn with_tags(mut self, (open, close): (&str, &str)) -> Self {
        (self.open, self.close) = (open.into(), close.into());
        self
    }

    /// Whether the reasoning has begun and is not closed yet.
    pub fn is_reasoning(&self) -> bool {
        matches!(self.part, Part::BeforeReasoning | Part::Reasoning)
    }

    /// Takes the bytes of a token.
    pub fn push(&mut self, bytes: &[u8]) -> Delta {
        if self.stopped {
            return Delta {
                stopped: true,
                ..Delta::default()
            };
        }
        self.bytes.extend_from_slice(bytes);
        let whole = whole_characters(&self.bytes);
        let text = String::from_utf8_lossy(&self.bytes[..whole]).into_owned();
        self.bytes.drain(..whole);
        self.take(&text)
    }

    /// Takes whole characters one at a time, so that the result does not depend on how tokens cut the text: which of two
    /// overlapping stop strings counts, and whether one reaches over a tag, is decided when its last character comes.
    fn take(&mut self, text: &str) -> Delta {
        let mut all = Delta::default();
        for character in text.chars() {
            self.held.push(character);
            let delta = self.flow(false);
            all.content.push_str(&delta.content);
            all.reasoning.push_str(&delta.reasoning);
            if delta.stopped {
                all.stopped = true;
                break;
            }
        }
        all
    }

    /// Takes the end of the answer: what was held back comes out.
    pub fn finish(&mut self) -> Delta {
        if self.stopped {
            return Delta {
                stopped: true,
                ..Delta::default()
            };
        }
        let rest = String::from_utf8_lossy(&self.bytes).into_owned();
        self.bytes.clear();
        let mut all = self.take(&rest);
        if !self.stopped {
            let delta = self.flow(true);
            all.content.push_str(&delta.content);
            all.reasoning.push_str(&delta.reasoning);
        }
        all
    }

    fn flow(&mut self, last: bool) -> Delta {
        let mut delta = Delta::default();
        // The first stop string ends everything behind it.
        let stop = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = stop {
            self.held.truncate(at);
            self.stopped = true;
            delta.stopped = true;
        }
        let last = last || self.stopped;
        loop {
            let before = self.part;
            match self.part {
                Part::Start => {
                    let trimmed = self.held.trim_start();
                    if let Some(rest) = trimmed.strip_prefix(self.open.as_str()) {
                        self.held = rest.to_string();
                        self.part = Part::BeforeReasoning;
                    } else if last || !self.open.starts_with(trimmed) {
                        self.part = Part::Content;
                    }
                }
                Part::BeforeReasoning => {
                    let trimmed = self.held.trim_start_matches(['\r', '\n']);
                    if !trimmed.is_empty() || last {
                        self.held = trimmed.to_string();
                        self.part = Part::Reasoning;
                    }
                }
                Part::Reasoning => match self.held.find(&self.close) {
                    Some(at) => {
                        delta.reasoning.push_str(&self.held[..at]);
                        self.held = self.held[at + self.close.len()..].to_string();
                        self.part = Part::AfterReasoning;
                    }
                    None => self.let_out(last, true, &mut delta),
                },
                Part::AfterReasoning => {
                    let trimmed = self.held.trim_start();
                    if !trimmed.is_empty() || last {
                        self.held = trimmed.to_string();
                        self.part = Part::Content;
                    }
                }
                Part::Content => self.let_out(last, false, &mut delta),
            }
            if self.part == before {
                return delta;
            }
        }
    }

    /// Lets out what can no longer become a stop string or the end of reasoning.
    fn let_out(&mut self, last: bool, reasoning: bool, delta: &mut Delta) {
        let mut keep = 0;
        if !last {
            for ending in self.stops.iter().chain(reasoning.then_some(&self.close)) {
                let longest = (1..ending.len().min(self.held.len() + 1))
                    .rev()
                    .find(|&n| ending.is_char_boundary(n) && self.held.ends_with(&ending[..n]));
                keep = keep.max(longest.unwrap_or(0));
            }
        }
        let out = self.held.len() - keep;
        let target = if reasoning {
            &mut delta.reasoning
        } else {
            &mut delta.content
        };
        target.push_str(&self.held[..out]);
        self.held.drain(..out);
    }
}

/// How many bytes from the start are whole characters, or can never become one.
fn whole_characters(bytes: &[u8]) -> usize {
    // A character has at most four bytes: only the last three can be an unfinished one.
    for back in 1..=bytes.len().min(3) {
        let at = bytes.len() - back;
        let needed = match bytes[at] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return bytes.len(),
        };
        let unfinished =
            needed > back && matches!(std::str::from_utf8(&bytes[at..]), Err(error) if error.error_len().is_none());
        return if unfinished { at } else { bytes.len() };
    }
    bytes.len()
}
