//! What recurrent layers carry from token to token, and how a student goes back to an earlier token.
//!
//! Keys and values of a prefix stay where they are; a state is that of one number of tokens only. So a copy is kept of the
//! states in front of a prompt's last tokens: what begins the same again goes on from there.

use crate::model::Recurrent;
use crate::model::state::Words;

/// Copies of what is carried: the one that runs, and the kept one.
pub const COPIES: usize = 2;

/// What one layer carries.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// The last inputs of the convolution, `(taps - 1, channels)`.
    pub conv: Vec<f32>,
    /// The state, `(heads, head_dim, state)`.
    pub scan: Vec<f32>,
}

/// What all recurrent layers carry: now, and in front of the last prompt's last tokens.
#[derive(Debug, Default)]
pub struct Carried {
    cells: Vec<Cell>,
    kept: Option<(usize, Vec<Cell>)>,
}

impl Carried {
    /// Nothing seen yet, in `layers` recurrent layers.
    pub fn new(shape: Option<&Recurrent>, layers: usize) -> Self {
        let cell = shape.map_or_else(Cell::default, |shape| Cell {
            conv: vec![0.0; shape.conv_carry()],
            scan: vec![0.0; shape.scan_carry()],
        });
        Self {
            cells: vec![cell; layers],
            kept: None,
        }
    }

    /// Whether there is any recurrent layer.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// What recurrent layer number `cell` carries.
    pub fn cell(&mut self, cell: usize) -> &mut Cell {
        &mut self.cells[cell]
    }

    /// The most tokens, up to `most`, after which the states are known; `now` tokens have been run.
    pub fn resume(&self, most: usize, now: usize) -> usize {
        if self.is_empty() {
            return most;
        }
        let kept = self.kept.as_ref().map_or(0, |(tokens, _)| *tokens);
        [now, kept].into_iter().filter(|n| *n <= most).max().unwrap_or(0)
    }

    /// Makes the states those after `tokens` tokens, which [`Carried::resume`] gave; `now` have been run.
    pub fn go_to(&mut self, tokens: usize, now: usize) {
        // A copy of more tokens is one of others than will follow.
        if self.kept.as_ref().is_some_and(|(kept, _)| *kept > tokens) {
            self.kept = None;
        }
        if tokens == 0 {
            for cell in &mut self.cells {
                cell.conv.fill(0.0);
                cell.scan.fill(0.0);
            }
        } else if tokens != now && !self.is_empty() {
            match &self.kept {
                Some((kept, cells)) if *kept == tokens => self.cells.clone_from(cells),
                _ => unreachable!("the caller asked which states are known"),
            }
        }
    }

    /// After how many tokens a copy is kept that goes with the states after `tokens`; 0: none does.
    pub fn kept(&self, tokens: usize) -> usize {
        self.kept.as_ref().map_or(0, |(kept, _)| *kept).min(tokens)
    }

    /// Appends the states after `tokens` tokens, which [`Carried::resume`] gave, then the kept ones; `now` tokens have been run.
    pub fn save(&self, tokens: usize, now: usize, out: &mut Vec<u8>) {
        let kept = self.kept.as_ref().filter(|(kept, _)| (1..=tokens).contains(kept));
        let copies = match kept {
            Some((kept, cells)) if *kept == tokens && tokens != now => [Some(cells), Some(cells)],
            Some((_, cells)) => [Some(&self.cells), Some(cells)],
            None => [Some(&self.cells), None],
        };
        for cell in copies.into_iter().flatten().flatten() {
            out.extend(bytemuck::cast_slice::<f32, u8>(&cell.conv));
            out.extend(bytemuck::cast_slice::<f32, u8>(&cell.scan));
        }
    }

    /// Makes the states those that were saved, with the kept ones after `kept` tokens (0: none).
    pub fn restore(&mut self, kept: usize, words: &mut Words<'_>) {
        let mut read = |cells: &mut Vec<Cell>| {
            for cell in cells {
                words.copy(&mut cell.conv);
                words.copy(&mut cell.scan);
            }
        };
        read(&mut self.cells);
        self.kept = (kept > 0).then(|| {
            let mut cells = self.cells.clone();
            read(&mut cells);
            (kept, cells)
        });
    }

    /// Keeps a copy of the states, which are those after `tokens` tokens.
    pub fn keep(&mut self, tokens: usize) {
        if !self.is_empty() {
            self.kept = Some((tokens, self.cells.clone()));
        }
    }
}
