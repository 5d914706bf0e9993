//! Sorting by small keys, described.

mod counting_sort;
