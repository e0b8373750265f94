//! What the user asked, or the exact line that is wrong. Pure: no file, environment, host or clock.

mod pod;

pub use pod::*;
