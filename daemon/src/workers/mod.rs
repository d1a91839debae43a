//! Child processes: starting them ([`process`]), speaking frames with them ([`line`]), keeping serving
//! processes ([`serving`]), of servers elsewhere too (`elsewhere`), telling hooks ([`hooks`]), and children in jobs of a
//! cluster ([`slurm`], [`far`]). Never here: what a child is for (jobs) or when one is wanted (the dispatcher).

mod elsewhere;
pub mod far;
pub mod hooks;
pub mod line;
pub mod memory;
pub mod process;
pub mod serving;
pub mod slurm;
pub mod turns;
