//! The optimizer's step over all pairs; what it and a checkpoint need to know of them.

use super::{AdamW, Trained, Trainer};
use crate::cpu::adamw::adamw;
use crate::format::adapter::Adapter;
use crate::format::gguf::Metadata;
use std::collections::HashMap;

impl Trainer {
    /// Gradients back to zero.
    pub fn zero(&mut self) {
        for trained in &mut self.pairs {
            trained.gradient.iter_mut().for_each(|g| g.fill(0.0));
        }
    }

    /// One step of the optimizer; gives the length of the gradient before it was clipped. A step whose gradient is not
    /// finite changes nothing.
    pub fn step(&mut self, adam: &AdamW) -> f32 {
        let gradients = self.pairs.iter().flat_map(|trained| trained.gradient.iter().flatten());
        let squares: f64 = gradients.map(|g| f64::from(*g).powi(2)).sum();
        let norm = squares.sqrt() as f32;
        if !norm.is_finite() {
            return norm;
        }
        self.steps += 1;
        let numbers = adam.step(self.steps, norm);
        for trained in &mut self.pairs {
            let Trained {
                pair,
                gradient,
                moments: [means, squares],
                ..
            } = trained;
            for (i, values) in [&mut pair.a, &mut pair.b].into_iter().enumerate() {
                adamw(&numbers, values, &gradient[i], &mut means[i], &mut squares[i]);
            }
        }
        norm
    }

    /// Steps that changed something.
    pub fn steps(&self) -> usize {
        self.steps as usize
    }

    /// The pairs and the optimizer's memory, by name.
    pub fn state(&self) -> Vec<(String, Vec<f32>)> {
        let mut all = Vec::new();
        for trained in &self.pairs {
            let base = &trained.pair.base;
            let [means, squares] = &trained.moments;
            for (half, values, i) in [("a", &trained.pair.a, 0), ("b", &trained.pair.b, 1)] {
                all.push((format!("{base}.{half}"), values.clone()));
                all.push((format!("{base}.{half}.mean"), means[i].clone()));
                all.push((format!("{base}.{half}.square"), squares[i].clone()));
            }
        }
        all
    }

    /// Takes a state back, after `steps` steps that changed something. `false`, and nothing is changed, where names or sizes differ.
    pub fn set_state(&mut self, state: &HashMap<String, Vec<f32>>, steps: usize) -> bool {
        let own = self.state();
        let fits = |(name, values): &(String, Vec<f32>)| state.get(name).is_some_and(|v| v.len() == values.len());
        if own.len() != state.len() || !own.iter().all(fits) {
            return false;
        }
        for trained in &mut self.pairs {
            let base = trained.pair.base.clone();
            let [means, squares] = &mut trained.moments;
            for (half, values, i) in [("a", &mut trained.pair.a, 0), ("b", &mut trained.pair.b, 1)] {
                values.clone_from(&state[&format!("{base}.{half}")]);
                means[i].clone_from(&state[&format!("{base}.{half}.mean")]);
                squares[i].clone_from(&state[&format!("{base}.{half}.square")]);
            }
        }
        self.steps = steps as i32;
        true
    }

    /// What was trained, as an adapter.
    pub fn adapter(&self) -> Adapter {
        Adapter {
            architecture: self.frozen.plan.config.architecture.name().to_owned(),
            alpha: self.alpha,
            metadata: Metadata::default(),
            pairs: self.pairs.iter().map(|trained| trained.pair.clone()).collect(),
        }
    }
}
