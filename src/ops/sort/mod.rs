//! Sorting by small keys.

pub mod counting_sort;
