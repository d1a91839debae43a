//! Child processes: starting them ([`process`]), speaking frames with them ([`line`]), keeping serving
//! processes ([`serving`]), and children in jobs of a cluster ([`slurm`], [`far`]). Never here: what a child is for (jobs) or when one is wanted (the dispatcher).

pub mod far;
pub mod line;
pub mod memory;
pub mod process;
pub mod serving;
pub mod slurm;
pub mod turns;
