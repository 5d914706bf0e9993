//! The commands of `loom`, a file each.

pub mod adapters;
pub mod bench;
pub mod check;
pub mod cli;
pub mod compare;
pub mod export;
pub mod faults;
pub mod isa;
pub mod matrix;
pub mod pack;
pub mod report;
pub mod results;
pub mod run;
pub mod traps;
pub mod tune;
pub mod verify;
