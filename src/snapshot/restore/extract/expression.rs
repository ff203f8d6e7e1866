//! Whether a text is one expression, before a server is there to say so: it stands in parentheses in
//! statements of ours, and must not end them.

/// What is wrong with it, with the place.
pub fn check(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    let chars: Vec<char> = text.chars().collect();
    let mut open: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1);
        let wrong = |what: &str| Err(format!("{what} at character {}", at + 1));
        match c {
            '\'' | '"' | '`' => match end_of_quote(&chars, at) {
                Some(end) => at = end,
                None => return wrong("a quote that isn't closed begins"),
            },
            '(' => open.push(at),
            ')' if open.pop().is_none() => return wrong("a closing parenthesis too many stands"),
            ';' => return wrong("a semicolon stands"),
            '\0' => return wrong("a zero byte stands"),
            '#' => return wrong("a comment begins"),
            '/' if next == Some(&'*') => return wrong("a comment begins"),
            '-' if next == Some(&'-') && begins_comment(chars.get(at + 2)) => {
                return wrong("a comment begins");
            }
            _ => {}
        }
        at += 1;
    }
    match open.last() {
        None => Ok(()),
        Some(at) => Err(format!(
            "a parenthesis that isn't closed begins at character {}",
            at + 1
        )),
    }
}

fn begins_comment(after: Option<&char>) -> bool {
    after.is_none_or(|c| c.is_whitespace() || c.is_control())
}

/// A quote inside is written twice; a backslash takes the next character's meaning, but in names.
fn end_of_quote(chars: &[char], begin: usize) -> Option<usize> {
    let quote = chars[begin];
    let mut at = begin + 1;
    while let Some(&c) = chars.get(at) {
        match c {
            '\\' if quote != '`' => at += 1,
            c if c == quote && chars.get(at + 1) == Some(&quote) => at += 1,
            c if c == quote => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_expression_passes() {
        for text in [
            "subject_id = 5",
            "name = 'O''Hara' AND (id IN (SELECT id FROM `#odd``name`) OR note = \"a;b\")",
            "note = 'it\\'s'",
            "a = 5 --3",
            "dob > '2024-01-01' - INTERVAL 1 DAY",
            "név = 'ő'",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_would_end_the_statement_is_told_with_its_place() {
        for (text, words) in [
            (" ", "it is empty"),
            (
                "a = 1) OR (b = 2",
                "closing parenthesis too many stands at character 6",
            ),
            ("(a = 1", "isn't closed begins at character 1"),
            ("a = 'x", "a quote that isn't closed begins at character 5"),
            (
                "a = '\\'",
                "a quote that isn't closed begins at character 5",
            ),
            ("ő = 1; DROP TABLE t", "a semicolon stands at character 6"),
            ("a = 1 -- ", "a comment begins at character 7"),
            ("a = 1 --", "a comment begins at character 7"),
            ("a = 1 # b", "a comment begins at character 7"),
            ("a = /* b */ 1", "a comment begins at character 5"),
        ] {
            let said = check(text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
