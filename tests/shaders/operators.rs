//! What naga lets pass, and the grammar of WGSL does not: operators side by side that need parentheses between them. Browsers refuse such a
//! module. (WGSL, 8.19, "Operator Precedence and Associativity".)

use std::path::Path;

/// Kinds of binary operators that do not stand beside each other: `&&` and `||`; `&`, `|` and `^` beside any other; shifts beside
/// arithmetic.
fn kind(token: &str) -> Option<char> {
    Some(match token {
        "&&" => 'A',
        "||" => 'O',
        "&" | "|" | "^" => token.chars().next()?,
        "<<" | ">>" => 's',
        "+" | "-" | "*" | "/" | "%" => 'a',
        "==" | "!=" | "<=" | ">=" => 'r',
        _ => return None,
    })
}

fn clash(kinds: &str) -> bool {
    let has = |kind: char| kinds.contains(kind);
    let bits = ['&', '|', '^'].into_iter().filter(|&bit| has(bit)).count();
    (has('A') && has('O'))
        || bits > 1
        || (bits == 1 && ['A', 'O', 's', 'a', 'r'].into_iter().any(has))
        || (has('s') && has('a'))
}

/// Without comments and the parameters of types, whose brackets are no operators.
fn plain(source: &str) -> String {
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let mut text = lines.collect::<Vec<_>>().join("\n");
    let generic =
        ["vec2", "vec3", "vec4", "array", "bitcast", "ptr", "atomic", "mat2x4", "mat4x4", "coopLoad", "coopLoadT"];
    // The innermost first.
    while let Some((start, end)) = text.match_indices('<').find_map(|(start, _)| {
        let named = generic.iter().any(|name| text[..start].ends_with(name));
        let end = start + 1 + text[start + 1..].find(['<', '>', ';', '('])?;
        (named && text[end..].starts_with('>')).then_some((start, end))
    }) {
        text.replace_range(start..=end, "");
    }
    text
}

/// Tokens of several signs, the longest first.
const TOKENS: [&str; 19] = [
    "<<=", ">>=", "&&", "||", "<<", ">>", "<=", ">=", "==", "!=", "->", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=",
];

/// The lines, from 1 on, in which operators stand side by side that may not.
fn clashes(source: &str) -> Vec<usize> {
    let text = plain(source);
    let (mut found, mut stack, mut line, mut operand) = (Vec::new(), vec![String::new()], 1, false);
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let word = first.is_alphanumeric() || first == '_';
        let len = match word {
            true => rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len()),
            false => {
                TOKENS.iter().find(|token| rest.starts_with(**token)).map_or(first.len_utf8(), |token| token.len())
            }
        };
        let token = &rest[..len];
        rest = &rest[len..];
        let within = stack.len() > 1;
        let top = stack.last_mut().expect("the outermost stays");
        match (token, kind(token)) {
            ("\n", _) => line += 1,
            (" ", _) => continue,
            ("(" | "[", _) => stack.push(String::new()),
            (")" | "]", _) if within => drop(stack.pop()),
            ("{" | "}" | ";" | "," | ":" | "return" | "if" | "while", _) => top.clear(),
            (_, None) if token.ends_with('=') => top.clear(),
            (_, Some(kind)) if operand => {
                top.push(kind);
                if clash(top) {
                    found.push(line);
                    top.clear();
                }
                // The sides of these may be sums, products and shifts.
                if "AOr".contains(kind) {
                    top.retain(|other| "AOr".contains(other));
                }
            }
            _ => {}
        }
        let keyword = ["return", "if", "while"].contains(&token);
        operand = (word && !keyword) || token == ")" || token == "]" || (token == "\n" && operand);
    }
    found
}

#[test]
fn operators_that_clash_are_found() {
    for wrong in ["a || b && c", "a & b == c", "a >> 1u & 1u", "a + b << 2u", "a | b & c", "a & b && c", "a * b >> c"] {
        assert_eq!(clashes(&format!("fn f() {{ return {wrong}; }}")), [1], "{wrong}");
    }
    for right in [
        "a || (b && c)",
        "(a & b) == c",
        "(a >> 1u) & 1u",
        "a | b | c",
        "a < b && c + 1u >= d",
        "-a",
        "vec2<u32>(a) >> vec2<u32>(1u)",
    ] {
        assert_eq!(clashes(&format!("fn f() {{ return {right}; }}")), [0; 0], "{right}");
    }
    assert_eq!(
        clashes("var<workgroup> x: array<vec2<u32>, 4u>;\nlet a = b & c; let p = &x; let q = f(&x, *p);"),
        [0; 0]
    );
}

#[test]
fn operators_have_the_parentheses_that_browsers_want() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders")];
    let (mut read, mut wrong) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let lines = clashes(&std::fs::read_to_string(&entry).unwrap());
                wrong.extend(lines.into_iter().map(|line| format!("{}:{line}", entry.display())));
                read += 1;
            }
        }
    }
    assert!(read > 300, "{read} files");
    assert!(wrong.is_empty(), "parentheses are missing: {wrong:#?}");
}
