//! `loom traps`: the table of known traps as one Markdown page, `docs/TRAPS.md`.

use std::fmt::Write;

use tileloom::traps::{Act, Avoid, TRAPS, Trap};

/// What the page says before its tables.
const HEAD: &str = "\
# Known traps

Written by `loom traps --write` from the table in `src/traps.rs`. Do not edit it by hand.

Drivers and shader compilers are publicly known for these mistakes in compute shaders. Each row says where, how tileloom
avoids it, and which test fails where that is not kept. Most of the tests run on the adapters that you have: `loom check` and
`tools/test` tell what is wrong on yours. `loom adapters --verbose` tells what is left alone there.
";

/// What the page says before the rows of `act`.
const SECTIONS: [(&str, &str); 3] = [
    (
        "Left alone on some adapters",
        "\
The word in the first column turns a row off, or on elsewhere: `TILELOOM_TRAPS=\"off:matrices,force:shuffles\"` uses
cooperative matrices where the table says that they are wrong, and leaves shuffles where it does not. `all` is every word, later
ones win, and what is not understood is logged. It is for those who report bugs: the same program with and without.
**`off` can crash**: llvmpipe with cooperative matrices at a subgroup width of 4 panics in `request_device`, at 16 the driver
itself goes down.",
    ),
    ("Rules of all kernels", "They hold on every adapter; nothing turns them off."),
    ("For you to act on", "No library can avoid these."),
];

/// The page.
pub fn render() -> String {
    let mut page = HEAD.to_string();
    for (i, (title, text)) in SECTIONS.into_iter().enumerate() {
        let word = |trap: &Trap| match trap.act {
            Act::Avoid(what, _) => Some(what),
            _ => None,
        };
        let rows = TRAPS.iter().filter(|trap| section(trap.act) == i).map(|trap| row(trap, word(trap)));
        let rows: String = rows.collect();
        let header = match i {
            0 => "| word | trap | threads | how tileloom avoids it | tests |\n|---|---|---|---|---|\n",
            1 => "| trap | threads | how tileloom avoids it | tests |\n|---|---|---|---|\n",
            _ => "| trap | threads | what to do |\n|---|---|---|\n",
        };
        let _ = write!(page, "\n## {title}\n\n{text}\n\n{header}{rows}");
    }
    page
}

/// The place of a row in [`SECTIONS`].
fn section(act: Act) -> usize {
    match act {
        Act::Avoid(..) => 0,
        Act::Always => 1,
        Act::Tell => 2,
    }
}

fn row(trap: &Trap, word: Option<Avoid>) -> String {
    let Trap { place, what, how, .. } = trap;
    let threads: Vec<_> = trap.threads.iter().map(|thread| format!("[{thread}]({})", url(thread))).collect();
    let threads = if threads.is_empty() { "seen here".into() } else { threads.join("<br>") };
    let guards: Vec<_> = trap.guards.iter().map(|(file, name)| format!("[`{name}`](../{file})")).collect();
    let mut cells: Vec<String> = word.iter().map(|word| format!("`{word}`")).collect();
    cells.extend([format!("**{place}**: {what}"), threads, how.to_string()]);
    if !guards.is_empty() {
        cells.push(guards.join("<br>"));
    }
    format!("| {} |\n", cells.join(" | "))
}

/// Where a thread is to be read.
fn url(thread: &str) -> String {
    let (place, number) = thread.split_once('#').unwrap_or((thread, ""));
    match place {
        "dawn" => format!("https://crbug.com/dawn/{number}"),
        "mesa/mesa" => format!("https://gitlab.freedesktop.org/mesa/mesa/-/issues/{number}"),
        _ => format!("https://github.com/{place}/issues/{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

    #[test]
    fn the_page_is_that_of_the_table() {
        let page = std::fs::read_to_string(format!("{ROOT}/docs/TRAPS.md")).unwrap().replace("\r\n", "\n");
        assert!(page == render(), "docs/TRAPS.md is not of the table: `loom traps --write`");
        for what in Avoid::ALL {
            assert!(page.contains(&format!("| `{what}` |")), "{what}");
        }
    }

    #[test]
    fn guards_are_tests_that_exist() {
        for trap in TRAPS {
            for (file, name) in trap.guards {
                let text = std::fs::read_to_string(format!("{ROOT}/{file}")).unwrap_or_else(|e| panic!("{file}: {e}"));
                let is_test = text.contains(&format!("#[test]\n    fn {name}()"))
                    || text.contains(&format!("#[test]\nfn {name}()"))
                    || text.contains(&format!("(\"{name}\""))
                    || text.contains(&format!("lack, \"{name}\""))
                    || text.contains(&format!("\ndef {name}("));
                assert!(is_test, "{file} has no test `{name}`, which guards {}: {}", trap.place, trap.what);
            }
        }
    }

    #[test]
    fn threads_have_addresses() {
        for thread in TRAPS.iter().flat_map(|trap| trap.threads) {
            let (place, number) = thread.split_once('#').unwrap_or_else(|| panic!("{thread}"));
            assert!(number.parse::<u32>().is_ok(), "{thread}");
            assert!(place == "dawn" || place.split('/').count() == 2, "{thread}");
        }
        assert_eq!(url("gfx-rs/wgpu#4500"), "https://github.com/gfx-rs/wgpu/issues/4500");
        assert_eq!(url("mesa/mesa#15932"), "https://gitlab.freedesktop.org/mesa/mesa/-/issues/15932");
        assert_eq!(url("dawn#1564"), "https://crbug.com/dawn/1564");
    }
}
