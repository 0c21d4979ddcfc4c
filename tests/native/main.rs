//! Every native test in one binary: goldens against the reference kit, twins on a real driver, walls.

mod format;
mod gpu;
mod kernels;
mod kit;
mod logits;
mod random;
mod repack;
mod shaders;
mod student;
mod text;
mod walls;
