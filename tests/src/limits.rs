//! docs/limits.md as a table, and the constants of the sources with their values.

use std::collections::BTreeMap;

use crate::repository::{Source, root};

/// A limit of the tables.
#[derive(Clone, Debug)]
pub struct Row {
    /// A key of a configuration file, or a constant with its path.
    pub name: String,
    /// As the file or the source has it.
    pub default: String,
    /// What counts it.
    pub series: String,
    /// `file::function`.
    pub test: String,
}

/// All tables, by the heading that they stand under.
#[derive(Clone, Debug)]
pub struct Rows(Vec<(String, Row)>);

/// Reads docs/limits.md.
///
/// # Panics
///
/// If it is not there.
#[must_use]
pub fn limits() -> Rows {
    let text = std::fs::read_to_string(root().join("docs/limits.md")).expect("docs/limits.md");
    let (mut heading, mut rows) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title.to_lowercase();
        } else if line.starts_with("| `") {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let cell = |index: usize| {
                let text = cells.get(index).map(|cell| cell.trim_matches('`'));
                text.unwrap_or_default().to_owned()
            };
            let (name, default) = (cell(0), cell(1));
            rows.push((heading.clone(), Row { name, default, series: cell(3), test: cell(4) }));
        }
    }
    Rows(rows)
}

impl Rows {
    /// The limits that are keys of a program's file.
    #[must_use]
    pub fn keys(&self, program: &str) -> BTreeMap<String, Row> {
        let own = self.0.iter().filter(|(heading, _)| heading == program);
        own.map(|(_, row)| (row.name.clone(), row.clone())).collect()
    }

    /// Every limit that refuses or ends something, and so is counted and reached by a test.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.0.iter().filter(|(heading, _)| heading != "shapes").map(|(_, row)| row)
    }

    /// The constants, with the values that the tables give.
    #[must_use]
    pub fn constants(&self) -> BTreeMap<String, String> {
        let named = self.0.iter().filter(|(_, row)| row.name.contains("::"));
        named.map(|(_, row)| (row.name.clone(), row.default.clone())).collect()
    }
}

/// The crates whose constants are looked at.
const CRATES: [&str; 8] =
    ["proto", "websocket", "tunnel", "runtime", "trunk", "node", "core", "gateway"];

/// Constants and defaults of the sources, as they are written, by `crate::module::NAME`.
#[derive(Clone, Debug)]
pub struct Constants(BTreeMap<String, String>);

impl Constants {
    /// Those outside tests.
    #[must_use]
    pub fn of(sources: &[Source]) -> Self {
        let mut found = BTreeMap::new();
        for Source { path, text } in sources {
            let Some(module) = module(path) else { continue };
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for line in code.lines() {
                if let Some((name, expression)) = constant(line).or_else(|| field(line)) {
                    found.entry(format!("{module}::{name}")).or_insert(expression);
                }
            }
        }
        Self(found)
    }

    /// All of their names; fields of a `Default` among them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What a constant is: a number, or a time such as `90s`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<String> {
        let expression = self.0.get(name)?;
        let (module, _) = name.rsplit_once("::")?;
        let Some((unit, number)) = expression
            .strip_prefix("Duration::from_")
            .and_then(|rest| rest.strip_suffix(')')?.split_once('('))
        else {
            let number = self.number(expression, module);
            return Some(number.map_or_else(|| expression.clone(), |number| number.to_string()));
        };
        let number = self.number(number, module)?;
        Some(match unit {
            "millis" if number % 1000 == 0 => format!("{}s", number / 1000),
            "millis" => format!("{number}ms"),
            "hours" if number % 24 == 0 => format!("{}days", number / 24),
            "hours" => format!("{number}h"),
            "secs" if number % 60 == 0 => format!("{}m", number / 60),
            other => format!("{number}{}", other.chars().next().unwrap_or(' ')),
        })
    }

    /// Sums, products and shifts of numbers and of other constants.
    fn number(&self, expression: &str, module: &str) -> Option<i128> {
        let expression = expression.trim();
        for operators in [&[" << "][..], &[" + ", " - "], &[" * ", " / "]] {
            if let Some((left, operator, right)) = last_outside_brackets(expression, operators) {
                let left = self.number(left, module)?;
                let right = self.number(right, module)?;
                return Some(match operator {
                    " << " => left << right,
                    " + " => left + right,
                    " - " => left - right,
                    " * " => left * right,
                    _ => left.checked_div(right)?,
                });
            }
        }
        if let Some(inner) = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            return self.number(inner, module);
        }
        let atom = expression.split(" as ").next().unwrap_or_default();
        let name = self.resolve(atom, module);
        name.map_or_else(
            || atom.replace('_', "").parse().ok(),
            |name| {
                let (module, _) = name.rsplit_once("::")?;
                self.number(self.0.get(&name)?, module)
            },
        )
    }

    /// The constant that is meant: of the module, of the crate, or of any.
    fn resolve(&self, name: &str, module: &str) -> Option<String> {
        if !name.starts_with(|first: char| first.is_ascii_uppercase()) {
            return None;
        }
        let own = format!("{module}::{name}");
        if self.0.contains_key(&own) {
            return Some(own);
        }
        let ending = format!("::{name}");
        let crate_name = format!("{}::", module.split("::").next().unwrap_or_default());
        let all = || self.0.keys().filter(|known| known.ends_with(&ending));
        all().find(|known| known.starts_with(&crate_name)).or_else(|| all().next()).cloned()
    }
}

/// `trunk/src/fan_out/wait.rs` is `trunk::fan_out::wait`; none: no code of a crate's own.
fn module(path: &str) -> Option<String> {
    let (crate_name, rest) = path.split_once("/src/")?;
    if !CRATES.contains(&crate_name) || rest.contains("tests") || rest.contains("testing") {
        return None;
    }
    let module = rest.strip_suffix(".rs")?;
    let module = module.strip_suffix("/mod").unwrap_or(module);
    let parts = std::iter::once(crate_name).chain(module.split('/').filter(|part| *part != "lib"));
    Some(parts.collect::<Vec<_>>().join("::"))
}

/// `const NAME: type = expression;`
fn constant(line: &str) -> Option<(String, String)> {
    let (_, rest) = line.split_once("const ")?;
    let (name, rest) = rest.split_once(": ")?;
    let expression = rest.split_once(" = ")?.1.strip_suffix(';')?;
    let is_name =
        name.bytes().all(|byte| byte.is_ascii_uppercase() || b"_0123456789".contains(&byte));
    is_name.then(|| (name.to_owned(), expression.to_owned()))
}

/// `name: expression,` of a default.
fn field(line: &str) -> Option<(String, String)> {
    let (name, expression) = line.trim().strip_suffix(',')?.split_once(": ")?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_value = expression.starts_with("Duration::from_")
        || expression.starts_with(|first: char| first.is_ascii_digit());
    (is_name && is_value).then(|| (name.to_owned(), expression.to_owned()))
}

/// Splits at the last of the operators that stands in no brackets.
fn last_outside_brackets<'a>(
    expression: &'a str,
    operators: &[&'static str],
) -> Option<(&'a str, &'static str, &'a str)> {
    let mut depth = 0;
    for (at, byte) in expression.bytes().enumerate().rev() {
        match byte {
            b')' => depth += 1,
            b'(' => depth -= 1,
            _ if depth == 0 => {
                let here = operators.iter().find(|one| expression[at..].starts_with(**one));
                if let Some(operator) = here {
                    return Some((&expression[..at], operator, &expression[at + operator.len()..]));
                }
            }
            _ => {}
        }
    }
    None
}
