//! The README's table of gradients names every kernel: with a kernel as its gradient, or with a reason for none.

use std::collections::BTreeSet;

use loom::registry;

/// The names in backticks of a cell that are kernels: `norm_backward`, or the module of `gemm::backward`.
fn kernels<'a>(cell: &'a str, all: &BTreeSet<&str>) -> Vec<&'a str> {
    let quoted = cell.split('`').skip(1).step_by(2).map(|code| code.split("::").next().unwrap_or(code));
    quoted.filter(|name| all.contains(name)).collect()
}

/// Ops whose gradient is a kernel.
const MUST: [&str; 17] = [
    "activation",
    "attention",
    "attention_bias",
    "attention_merge",
    "conv",
    "conv_transpose",
    "dropout",
    "gemm",
    "group_norm",
    "grouped_gemm",
    "lora",
    "moe_route",
    "norm",
    "position_encoding",
    "rope",
    "softmax",
    "vq_lookup",
];

#[test]
fn every_kernel_is_in_the_table() {
    let all: BTreeSet<&str> = registry::all().into_iter().map(|kernel| kernel.name()).collect();
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("\n## Gradients\n").expect("a section of gradients");
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<(&str, &str)> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .filter(|&row| row != ("op", "gradient"))
        .collect();
    assert!(rows.len() > 10, "{rows:?}");

    let (mut ops, mut gradients) = (BTreeSet::new(), BTreeSet::new());
    for &(names, gradient) in &rows {
        for name in names.split(", ") {
            assert!(all.contains(name), "no kernel is called {name}");
            assert!(ops.insert(name), "{name} stands twice");
        }
        let named = kernels(gradient, &all);
        let none = gradient.strip_prefix("none");
        match none {
            Some(reason) => assert!(reason.starts_with(": ") || reason.starts_with(" for "), "{names}: none, but why?"),
            None => assert!(!named.is_empty(), "{names}: {gradient:?} names no kernel"),
        }
        gradients.extend(named);
    }
    for must in MUST {
        assert!(ops.contains(must), "{must} has no row");
        assert!(
            rows.iter()
                .any(|(names, gradient)| names.split(", ").any(|name| name == must) && !gradient.starts_with("none")),
            "{must}"
        );
    }
    // A kernel that is itself a gradient has no row of its own.
    let missing: Vec<_> = all.iter().filter(|name| !ops.contains(*name) && !gradients.contains(*name)).collect();
    assert!(missing.is_empty(), "no row of the table of gradients has {missing:?}");
}
