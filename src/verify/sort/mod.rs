//! How calls of the family `sort` are made and judged.

pub mod counting_sort;
