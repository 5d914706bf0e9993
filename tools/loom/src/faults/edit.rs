//! How a fault changes a source.

/// A change of the text of shaders whose stem starts with its first field.
pub enum Edit {
    /// All that reads like the second field reads like the third.
    All(&'static str, &'static str, &'static str),
    /// The same for each place of its own.
    Each(&'static str, &'static str, &'static str),
    /// Each `for` ends after so many rounds.
    Cut(&'static str, u32),
    /// The arguments of each call of the second field come out of the third: `{}` stands for the call.
    Calls(&'static str, &'static str, &'static str),
}

impl Edit {
    /// Whether it is meant for the shader of this stem.
    pub fn is_of(&self, stem: &str) -> bool {
        let (Edit::All(prefix, ..) | Edit::Each(prefix, ..) | Edit::Cut(prefix, _) | Edit::Calls(prefix, ..)) = self;
        stem.starts_with(prefix)
    }

    /// In how many places it can be put.
    pub fn places(&self, source: &str) -> usize {
        match self {
            Edit::All(_, from, _) => usize::from(source.contains(from)),
            Edit::Each(_, from, _) => source.matches(from).count(),
            Edit::Cut(..) => loops(source).len(),
            Edit::Calls(_, name, _) => calls(source, name).len(),
        }
    }

    /// The source with the change in one place, if it has that.
    pub fn apply(&self, source: &str, place: usize) -> Option<String> {
        match *self {
            Edit::All(_, from, to) => (place == 0 && source.contains(from)).then(|| source.replace(from, to)),
            Edit::Each(_, from, to) => {
                let (at, _) = source.match_indices(from).nth(place)?;
                Some([&source[..at], to, &source[at + from.len()..]].concat())
            }
            Edit::Cut(_, rounds) => {
                let (at, condition, end) = *loops(source).get(place)?;
                let (before, head) = (&source[..at], &source[at..condition]);
                let (test, rest) = (&source[condition..end], &source[end..]);
                let brace = rest.find('{')?;
                Some(format!(
                    "{before}var rounds_left = {rounds}u; {head}({}) && rounds_left > 0u{}{{ rounds_left -= 1u; {}",
                    test.trim(),
                    &rest[..brace],
                    &rest[brace + 1..]
                ))
            }
            Edit::Calls(_, name, by) => {
                let (at, end) = *calls(source, name).get(place)?;
                Some([&source[..at], &by.replace("{}", &source[at..end]), &source[end..]].concat())
            }
        }
    }
}

/// Loops over a variable: where the `for` starts, and its condition from and to.
fn loops(source: &str) -> Vec<(usize, usize, usize)> {
    let find = |(at, _): (usize, &str)| {
        let condition = at + source[at..].find(';')? + 1;
        let end = condition + source[condition..].find(';')?;
        Some((at, condition, end))
    };
    source.match_indices("for (").filter_map(find).collect()
}

/// Calls of a function: from its name to behind its parenthesis. Declarations are none.
fn calls(source: &str, name: &str) -> Vec<(usize, usize)> {
    let start = format!("{name}(");
    let own = |&(at, _): &(usize, &str)| {
        let before = source[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_') && !source[..at].ends_with("fn ")
    };
    let whole = |(at, _): (usize, &str)| {
        let mut depth = 0;
        for (i, c) in source[at..].char_indices() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            if c == ')' && depth == 0 {
                return Some((at, at + i + 1));
            }
        }
        None
    };
    source.match_indices(&start).filter(own).filter_map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str =
        "fn f(x: f32) -> f32 { return exp2(max(x, 0.0)) + exp2(x); }\nfor (var i = 0u; i < n; i++) { s += f(i); }";

    #[test]
    fn edits_change_one_place() {
        assert_eq!(Edit::Each("", "exp2(", "exp(").places(SOURCE), 2);
        let changed = Edit::Each("", "exp2(", "exp(").apply(SOURCE, 1).unwrap();
        assert!(changed.contains("exp2(max(x, 0.0)) + exp(x)"));
        let changed = Edit::Calls("", "exp2", "floor({})").apply(SOURCE, 0).unwrap();
        assert!(changed.contains("floor(exp2(max(x, 0.0))) + exp2(x)"));
        // A declaration is no call.
        assert_eq!(Edit::Calls("", "f", "{}").places(SOURCE), 1);
        let changed = Edit::Cut("", 7).apply(SOURCE, 0).unwrap();
        let expected = "var rounds_left = 7u; for (var i = 0u;(i < n) && rounds_left > 0u; i++) { rounds_left -= 1u;  s += f(i); }";
        assert!(changed.ends_with(expected), "{changed}");
    }
}
