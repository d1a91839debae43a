//! Child processes: starting them ([`process`]), speaking frames with them ([`line`]), and keeping serving
//! processes ([`serving`]). Never here: what a child is for (jobs) or when one is wanted (the dispatcher).

pub mod hooks;
pub mod line;
pub mod memory;
pub mod process;
pub mod serving;
pub mod turns;
