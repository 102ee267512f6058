//! What Larder's programs have in common: how they log, are told to stop, and end.

mod exit;
pub mod log;
mod signals;

pub use exit::{Exit, chain, end, fail};
pub use signals::stop_on_signals;
