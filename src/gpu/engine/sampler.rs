//! The dispatches that draw a token: the plain one, and what a request may ask for besides, made when it first does.

use super::{Dispatch, Maker};
use crate::error::Result;
use crate::gpu::device::{Gpu, Mapping};
use crate::gpu::kernels::Kernel;
use crate::model::{Adjustment, Slot};
use std::collections::BTreeMap;

/// Which of the two switches of `sample` are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Switches {
    masked: bool,
    typical: bool,
}

/// What draws.
pub(super) struct Sampler {
    plain: Dispatch,
    /// The same with switches on.
    others: BTreeMap<Switches, Dispatch>,
    switches: Switches,
    mask: Option<wgpu::Buffer>,
    /// What moves logits, with its list.
    adjust: Option<(Dispatch, wgpu::Buffer)>,
    is_adjusted: bool,
    /// Where the student's own logits are copied to.
    row: Option<wgpu::Buffer>,
    keeps_row: bool,
    reading: Option<Mapping>,
    /// The logits of the last token that was drawn, if they are kept.
    kept: Vec<f32>,
}

fn sample(maker: &mut Maker, switches: Switches, mask: &wgpu::Buffer) -> Dispatch {
    let logits = maker.slots[&Slot::Logits].clone();
    let (tokens, state) = (maker.tokens.clone(), maker.state.clone());
    let mut constants = vec![("VOCABULARY", maker.plan.config.vocabulary as f64)];
    for (name, on) in [("MASKED", switches.masked), ("TYPICAL", switches.typical)] {
        if on {
            constants.push((name, 1.0));
        }
    }
    let buffers = [&logits, mask, &tokens, &state];
    maker.dispatch(Kernel::Sample, None, &constants, &buffers, [1, 1, 1], None)
}

impl Sampler {
    pub(super) fn new(maker: &mut Maker) -> Self {
        let unused = maker.unused.clone();
        Self {
            plain: sample(maker, Switches::default(), &unused),
            others: BTreeMap::new(),
            switches: Switches::default(),
            mask: None,
            adjust: None,
            is_adjusted: false,
            row: None,
            keeps_row: false,
            reading: None,
            kept: Vec::new(),
        }
    }

    /// Makes the dispatch of the switches that are on.
    async fn switch(&mut self, gpu: &Gpu, maker: &mut Maker) -> Result<()> {
        let switches = self.switches;
        if switches == Switches::default() || self.others.contains_key(&switches) {
            return Ok(());
        }
        let vocabulary = maker.plan.config.vocabulary;
        let mask = match (&self.mask, switches.masked) {
            (Some(mask), true) => mask.clone(),
            (_, false) => maker.unused.clone(),
            (None, true) => {
                let bytes = 4 * vocabulary.div_ceil(32) as u64;
                gpu.scoped(async || Ok(gpu.storage("mask", bytes))).await?
            }
        };
        let made = gpu.scoped(async || Ok(sample(maker, switches, &mask))).await?;
        self.others.insert(switches, made);
        if switches.masked {
            self.mask = Some(mask);
        }
        Ok(())
    }

    /// See [`super::Engine::allow`].
    pub(super) async fn allow(&mut self, gpu: &Gpu, maker: &mut Maker, mask: Option<&[u32]>) -> Result<()> {
        self.switches.masked = mask.is_some();
        let Some(words) = mask else { return Ok(()) };
        let vocabulary = maker.plan.config.vocabulary;
        assert_eq!(words.len(), vocabulary.div_ceil(32), "a bit for each token");
        self.switch(gpu, maker).await?;
        if let Some(buffer) = &self.mask {
            gpu.write(buffer, 0, bytemuck::cast_slice(words));
        }
        Ok(())
    }

    /// Whether the most typical tokens alone are drawn.
    pub(super) async fn typical(&mut self, gpu: &Gpu, maker: &mut Maker, on: bool) -> Result<()> {
        self.switches.typical = on;
        self.switch(gpu, maker).await
    }

    /// See [`super::Engine::adjust`].
    pub(super) async fn adjust(&mut self, gpu: &Gpu, maker: &mut Maker, list: &[Adjustment]) -> Result<()> {
        self.is_adjusted = !list.is_empty();
        if list.is_empty() {
            return Ok(());
        }
        let vocabulary = maker.plan.config.vocabulary;
        assert!(list.len() <= vocabulary, "an entry for each token at most");
        if self.adjust.is_none() {
            let made = gpu
                .scoped(async || {
                    let buffer = gpu.storage("adjustments", 16 * (1 + vocabulary) as u64);
                    let logits = maker.slots[&Slot::Logits].clone();
                    let dispatch = maker.dispatch(Kernel::Adjust, None, &[], &[&logits, &buffer], [1, 1, 1], None);
                    Ok((dispatch, buffer))
                })
                .await?;
            self.adjust = Some(made);
        }
        if let Some((_, buffer)) = &self.adjust {
            let mut words = vec![list.len() as u32, 0, 0, 0];
            words.extend_from_slice(bytemuck::cast_slice(list));
            gpu.write(buffer, 0, bytemuck::cast_slice(&words));
        }
        Ok(())
    }

    /// See [`super::Engine::keep_logits`].
    pub(super) async fn keep_logits(&mut self, gpu: &Gpu, maker: &Maker, on: bool) -> Result<()> {
        if on && self.row.is_none() {
            let bytes = 4 * maker.plan.config.vocabulary as u64;
            self.row = Some(gpu.scoped(async || Ok(gpu.staging(bytes))).await?);
        }
        self.keeps_row = on;
        Ok(())
    }

    /// Where the logits go before they are moved, if they are kept.
    pub(super) fn row(&self) -> Option<&wgpu::Buffer> {
        self.row.as_ref().filter(|_| self.keeps_row)
    }

    /// Asks for the row that was copied with the token that was just submitted.
    pub(super) fn read_row_later(&mut self, gpu: &Gpu, vocabulary: usize) {
        if let Some(row) = self.row() {
            self.reading = Some(gpu.map(row, 4 * vocabulary as u64));
        }
    }

    /// Waits for the row that was asked for.
    pub(super) async fn take_row(&mut self, gpu: &Gpu) -> Result<()> {
        if let Some(mapping) = self.reading.take() {
            self.kept = bytemuck::pod_collect_to_vec(&gpu.finish(mapping).await?);
        }
        Ok(())
    }

    pub(super) fn kept(&self) -> &[f32] {
        &self.kept
    }

    /// What is run behind the head, in order.
    pub(super) fn lists(&self) -> [&[Dispatch]; 2] {
        let adjust = match &self.adjust {
            Some((dispatch, _)) if self.is_adjusted => std::slice::from_ref(dispatch),
            _ => &[],
        };
        let sample = self.others.get(&self.switches).unwrap_or(&self.plain);
        [adjust, std::slice::from_ref(sample)]
    }

    /// How many dispatches these are.
    pub(super) fn dispatches(&self) -> usize {
        self.lists().iter().map(|list| list.len()).sum()
    }
}
