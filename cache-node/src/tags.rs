//! What names that can change meant when upstream was last asked: a persistent ledger, and the rules of how long
//! its entries may be believed.
//!
//! Tags and lists of referrers follow the same rules. The content itself lies in the store, by digest.

mod freshness;
mod ledger;

pub use freshness::{Freshness, jitter_percent, judge};
pub(crate) use ledger::now_ms;
pub use ledger::{Entry, Key, Ledger, Name};
