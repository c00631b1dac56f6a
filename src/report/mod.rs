//! The only part that prints.

pub mod progress;
pub mod terminal;

pub use progress::{Progress, ProgressMode, Unit};
pub use terminal::Out;
