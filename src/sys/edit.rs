//! Something changed in the beginning of a text that passes piece by piece.

/// What is put in the place of something in the beginning, once.
#[derive(Debug, Clone, Copy)]
pub struct Edit {
    pub find: &'static str,
    pub put: &'static str,
}

/// It is looked for in so much of the beginning.
const EDIT_BYTES: usize = 16 * 1024;

impl Edit {
    /// What becomes of `beginning`.
    fn apply(self, beginning: &[u8]) -> Option<Vec<u8>> {
        let find = self.find.as_bytes();
        let at = beginning.windows(find.len()).position(|own| own == find)?;
        let rest = &beginning[at + find.len()..];
        Some([&beginning[..at], self.put.as_bytes(), rest].concat())
    }
}

/// Makes an edit in what passes. Holds back only while there is something to look for.
#[derive(Debug)]
pub struct Editor {
    edit: Option<Edit>,
    held: Vec<u8>,
    has_edited: bool,
}

impl Editor {
    pub fn new(edit: Option<Edit>) -> Self {
        Self {
            edit,
            held: Vec::new(),
            has_edited: false,
        }
    }

    /// What may go on of this piece and those before it.
    pub fn pass(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        match self.edit.and_then(|edit| edit.apply(&self.held)) {
            Some(edited) => {
                self.edit = None;
                self.held = edited;
                self.has_edited = true;
            }
            None if self.held.len() >= EDIT_BYTES => self.edit = None,
            None => {}
        }
        match self.edit {
            Some(_) => Vec::new(),
            None => std::mem::take(&mut self.held),
        }
    }

    /// The rest, at the end.
    pub fn finish(&mut self) -> Vec<u8> {
        self.edit = None;
        std::mem::take(&mut self.held)
    }

    /// Whether what was looked for came, and was replaced.
    pub fn has_edited(&self) -> bool {
        self.has_edited
    }

    /// Whether everything else passes as it is.
    pub fn is_done(&self) -> bool {
        self.edit.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_in_the_beginning_is_replaced_however_it_comes() {
        let edit = Edit {
            find: "bc",
            put: "BCD",
        };
        for size in 1..9 {
            let mut editor = Editor::new(Some(edit));
            let pieces = b"abcabc-";
            let mut all: Vec<u8> = pieces
                .chunks(size)
                .flat_map(|piece| editor.pass(piece))
                .collect();
            all.extend(editor.finish());
            assert_eq!(String::from_utf8(all).unwrap(), "aBCDabc-", "{size}");
            assert!(editor.has_edited());
        }
    }

    #[test]
    fn what_is_not_there_holds_nothing_up() {
        let find = Edit { find: "x", put: "" };
        let mut editor = Editor::new(Some(find));
        assert!(editor.pass(b"abc").is_empty());
        assert_eq!(editor.finish(), b"abc");
        assert!(!editor.has_edited());
        let mut editor = Editor::new(Some(find));
        assert_eq!(editor.pass(&[b'a'; EDIT_BYTES]).len(), EDIT_BYTES);
        assert!(editor.is_done());
        assert_eq!(editor.pass(b"x"), b"x");
        assert_eq!(Editor::new(None).pass(b"x"), b"x");
    }
}
