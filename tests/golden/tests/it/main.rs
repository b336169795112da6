//! Contents:
//! - `coverage`: what of real programs can be patched, against what was accepted and against what is promised

#[cfg(test)]
mod coverage;
