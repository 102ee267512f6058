//! placeholder

pub mod real;
