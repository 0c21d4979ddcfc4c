//! Cases of the kernels that recurrent layers need, and their overrides.

use super::{Case, Kernel, Kinds, NMSE, Numbers, flag, read, state, write_f32};
use crate::cpu;
use crate::cpu::gated_norm::norm_width;
use crate::model::{Mixing, Recurrent};

/// The overrides of `short_conv`; slots of `ring` steps.
pub fn conv_constants(shape: &Recurrent, bias: bool, ring: usize) -> [(&'static str, f64); 8] {
    [
        ("STRIDE", shape.projection().next_multiple_of(8) as f64),
        ("FIRST", shape.convolved() as f64),
        ("OUT", shape.channels as f64),
        ("CHANNELS", shape.channels as f64),
        ("TAPS", shape.taps as f64),
        ("RING", ring as f64),
        ("GATED", flag(shape.mixing == Mixing::ShortConv)),
        ("BIAS", flag(bias)),
    ]
}

/// The overrides of `mamba2` or `delta_net`; slots of `ring` steps, workgroups of `width` threads.
pub fn scan_constants(shape: &Recurrent, ring: usize, width: u32) -> Vec<(&'static str, f64)> {
    let mut all = vec![
        ("STRIDE", shape.channels as f64),
        ("IN", shape.projection().next_multiple_of(8) as f64),
        ("OUT", shape.inner() as f64),
        ("HEADS", shape.heads as f64),
        ("HEAD", shape.head_dim as f64),
        ("LANES", shape.lanes() as f64),
        ("RING", ring as f64),
        ("WG", f64::from(width)),
    ];
    let first = shape.steering();
    if shape.mixing == Mixing::DeltaNet {
        all.extend([
            ("KEY_HEADS", shape.groups as f64),
            ("KEY", shape.state as f64),
            ("BETA", first as f64),
            ("ALPHA", (first + shape.heads) as f64),
        ]);
    } else {
        all.extend([
            ("GROUPS", shape.groups as f64),
            ("N", shape.state as f64),
            ("DT", first as f64),
        ]);
    }
    all
}

/// Workgroups of `mamba2` or `delta_net` with `width` threads each.
pub fn scan_grid(shape: &Recurrent, width: u32) -> [u32; 3] {
    let tall = width as usize / shape.lanes();
    [(shape.heads * shape.head_dim.div_ceil(tall)) as u32, 1, 1]
}

/// The overrides of `gated_norm`; a workgroup of `lanes`.
pub fn norm_constants(shape: &Recurrent, gain: usize, epsilon: f32, lanes: u32) -> [(&'static str, f64); 8] {
    [
        ("IN", shape.projection().next_multiple_of(8) as f64),
        ("FIRST", shape.gate() as f64),
        ("OUT", shape.inner() as f64),
        ("WIDTH", norm_width(shape) as f64),
        ("GAIN", gain as f64),
        ("GATE_FIRST", flag(shape.mixing == Mixing::Mamba2)),
        ("EPS", f64::from(epsilon)),
        ("WG", f64::from(lanes)),
    ]
}

/// Rows `(T, projection)` with each row filled up as the device has it.
fn strided(x: &[f32], shape: &Recurrent) -> Vec<f32> {
    super::padded(x, shape.projection())
}

/// A ring of slots before and after: what is carried goes from slot `position` to slot `position + rows`.
struct Ring {
    before: Vec<f32>,
    carry: Vec<f32>,
    at: usize,
}

impl Ring {
    fn new(numbers: &mut Numbers, size: usize, ring: usize, position: usize, rows: usize) -> Self {
        let before = numbers.vector(ring * size);
        let from = position % ring * size;
        // Before the first token there is nothing, whatever the slot holds.
        let carry = if position == 0 {
            vec![0.0; size]
        } else {
            before[from..from + size].to_vec()
        };
        Self {
            before,
            carry,
            at: (position + rows) % ring * size,
        }
    }

    fn binding(self) -> super::Binding {
        let mut after = self.before.clone();
        after[self.at..self.at + self.carry.len()].copy_from_slice(&self.carry);
        write_f32(&self.before, after)
    }
}

/// A case of `short_conv`: `rows` rows from `position` on.
pub fn short_conv(seed: u64, shape: Recurrent, position: usize, rows: usize, bias: bool, ring: usize) -> Case {
    let mut numbers = Numbers(seed);
    let x = numbers.vector(rows * shape.projection());
    let w = numbers.vector(shape.channels * shape.taps);
    let added = numbers.vector(shape.channels);
    let mut carried = Ring::new(&mut numbers, shape.conv_carry(), ring, position, rows);
    let mut y = vec![0.0; rows * shape.channels];
    let with_bias = bias.then_some(added.as_slice());
    cpu::short_conv::short_conv(&shape, &x, &w, with_bias, &mut carried.carry, &mut y);
    Case {
        kernel: Kernel::ShortConv,
        kinds: Kinds::default(),
        constants: conv_constants(&shape, bias, ring).to_vec(),
        bindings: vec![
            read(&strided(&x, &shape)),
            read(&w),
            read(&added),
            carried.binding(),
            write_f32(&[], y),
            state(position, rows),
        ],
        grid: [shape.channels.div_ceil(64) as u32, 1, 1],
        tolerance: NMSE,
    }
}

/// A case of `mamba2` or `delta_net`, as the shape says: `rows` rows from `position` on, in workgroups of `width` threads.
pub fn scan(seed: u64, shape: Recurrent, position: usize, rows: usize, ring: usize, width: u32) -> Case {
    let mut numbers = Numbers(seed);
    let x = numbers.vector(rows * shape.channels);
    let projection: Vec<f32> = numbers
        .vector(rows * shape.projection())
        .iter()
        .map(|v| 3.0 * v)
        .collect();
    let delta = shape.mixing == Mixing::DeltaNet;
    let mut params = numbers.vector(shape.heads * if delta { 2 } else { 3 });
    // States fade: a is below 0.
    for a in &mut params[shape.heads..2 * shape.heads] {
        *a = -a.abs();
    }
    let mut carried = Ring::new(&mut numbers, shape.scan_carry(), ring, position, rows);
    let mut y = vec![0.0; rows * shape.inner()];
    let twin = if delta {
        cpu::delta_net::delta_net
    } else {
        cpu::mamba2::mamba2
    };
    twin(&shape, &x, &projection, &params, &mut carried.carry, &mut y);
    Case {
        kernel: if delta { Kernel::DeltaNet } else { Kernel::Mamba2 },
        kinds: Kinds::default(),
        constants: scan_constants(&shape, ring, width),
        bindings: vec![
            read(&x),
            read(&strided(&projection, &shape)),
            read(&params),
            carried.binding(),
            write_f32(&[], y),
            state(position, rows),
        ],
        grid: scan_grid(&shape, width),
        tolerance: NMSE,
    }
}

/// A case of `gated_norm` on `rows` rows.
pub fn gated_norm(seed: u64, shape: Recurrent, rows: usize, lanes: u32) -> Case {
    let mut numbers = Numbers(seed);
    let projection: Vec<f32> = numbers
        .vector(rows * shape.projection())
        .iter()
        .map(|v| 8.0 * v)
        .collect();
    let gain = numbers.vector(if shape.mixing == Mixing::Mamba2 {
        shape.inner()
    } else {
        shape.head_dim
    });
    let before = numbers.vector(rows * shape.inner());
    let epsilon = 1e-5;
    let mut y = before.clone();
    cpu::gated_norm::gated_norm(&shape, &projection, &gain, epsilon, &mut y);
    Case {
        kernel: Kernel::GatedNorm,
        kinds: Kinds::default(),
        constants: norm_constants(&shape, gain.len(), epsilon, lanes).to_vec(),
        bindings: vec![
            read(&strided(&projection, &shape)),
            read(&gain),
            write_f32(&before, y),
            state(0, rows),
        ],
        grid: [(shape.inner() / norm_width(&shape)) as u32, rows as u32 + 1, 1],
        tolerance: NMSE,
    }
}

/// A case of `sigmoid_gate`: `rows` rows of `heads` heads.
pub fn sigmoid_gate(seed: u64, rows: usize, heads: usize, head_dim: usize) -> Case {
    let mut numbers = Numbers(seed);
    let width = heads * head_dim;
    let stride = 2 * width + 8;
    let x: Vec<f32> = numbers.vector(rows * stride).iter().map(|v| 8.0 * v).collect();
    let before = numbers.vector(rows * width);
    let mut y = before.clone();
    cpu::sigmoid_gate::sigmoid_gate(&x, stride, head_dim, width, &mut y);
    Case {
        kernel: Kernel::SigmoidGate,
        kinds: Kinds::default(),
        constants: vec![
            ("IN", stride as f64),
            ("OUT", width as f64),
            ("WIDTH", width as f64),
            ("HEAD", head_dim as f64),
        ],
        bindings: vec![read(&x), write_f32(&before, y), state(0, rows)],
        grid: [width.div_ceil(64) as u32, rows as u32, 1],
        tolerance: NMSE,
    }
}

/// Small shapes of each kind, for known answers.
pub fn small(mixing: Mixing) -> Recurrent {
    let conv = Recurrent {
        mixing,
        channels: 24,
        taps: 3,
        heads: 0,
        head_dim: 0,
        groups: 0,
        state: 0,
    };
    match mixing {
        Mixing::ShortConv => conv,
        Mixing::Mamba2 | Mixing::DeltaNet => Recurrent {
            channels: 4 * 12 + 2 * 2 * 64,
            taps: 4,
            heads: 4,
            head_dim: 12,
            groups: 2,
            state: 64,
            ..conv
        },
    }
}

/// A small case of each kernel.
pub fn known_answers(lanes: u32) -> Vec<Case> {
    let (mamba2, delta_net) = (small(Mixing::Mamba2), small(Mixing::DeltaNet));
    vec![
        short_conv(1, small(Mixing::ShortConv), 0, 3, false, 3),
        short_conv(2, mamba2, 5, 1, true, 3),
        scan(3, mamba2, 5, 3, 3, 16),
        scan(4, delta_net, 5, 3, 3, 16),
        gated_norm(5, mamba2, 2, lanes),
        gated_norm(6, delta_net, 2, lanes),
        sigmoid_gate(7, 2, 3, 16),
    ]
}
