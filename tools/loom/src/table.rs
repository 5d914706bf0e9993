//! Tables that read well in a terminal and as Markdown.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

/// A table; columns whose header starts with `>` are aligned to the right.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header.iter().map(|name| name.trim_start_matches('>')));
    // A cell must not break the table that it stands in.
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| cell.replace('|', "/").replace('\n', " "))));
    for (i, name) in header.iter().enumerate() {
        if let (true, Some(column)) = (name.starts_with('>'), table.column_mut(i)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + "\n"
}
