//! Build, serve, test and bench: the only commands that people and CI type.
fn main() {}
