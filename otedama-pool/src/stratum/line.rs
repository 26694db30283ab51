//! Bytes to lines: one JSON object each, ended by LF or CRLF, never longer than a stated limit.

/// The longest line accepted from a miner, in bytes: several times what any sends.
pub const MINER_LINE_BYTES: usize = 8 << 10;

/// The longest line accepted from a pool, in bytes: a coinbase that pays hundreds passes 32 KiB in hex.
pub const POOL_LINE_BYTES: usize = 1 << 20;

/// Cuts a stream of bytes into lines. Holds at most one unfinished line of `limit` bytes and the last
/// piece pushed, if the lines are taken out between pushes.
#[derive(Debug)]
pub struct LineSplitter {
    held: Vec<u8>,
    /// Where the first line not yet taken begins.
    start: usize,
    /// Bytes up to here hold no end of that line.
    searched: usize,
    limit: usize,
}

/// Why a stream is not lines; fatal for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// No end within the limit.
    #[error("line has more than {limit} bytes: expected a line feed before that")]
    TooLong {
        /// The longest line accepted, in bytes.
        limit: usize,
    },
    /// Not text.
    #[error("line is not UTF-8 at byte {at}: expected a JSON object")]
    NotText {
        /// The first offending byte, counted from the line's start.
        at: usize,
    },
}

impl LineSplitter {
    /// A splitter of lines of at most `limit` bytes each, the end not counted.
    pub fn new(limit: usize) -> LineSplitter {
        LineSplitter { held: Vec::new(), start: 0, searched: 0, limit }
    }

    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.held.extend_from_slice(bytes);
    }

    /// The next whole line, without its end; `None` until more is pushed. Empty lines are left out.
    ///
    /// # Errors
    /// If a line, whole or not, is longer than the limit or not UTF-8. The stream is of no use after that.
    pub fn next_line(&mut self) -> Result<Option<&str>, LineError> {
        loop {
            let Some(found) = self.held[self.searched..].iter().position(|&byte| byte == b'\n') else {
                self.searched = self.held.len();
                // One more for a carriage return that may turn out to belong to the end.
                if self.held.len() - self.start > self.limit + 1 {
                    return Err(LineError::TooLong { limit: self.limit });
                }
                return Ok(None);
            };
            let (start, end) = (self.start, self.searched + found);
            self.start = end + 1;
            self.searched = self.start;
            let line = self.held[start..end].strip_suffix(b"\r").unwrap_or(&self.held[start..end]);
            if line.len() > self.limit {
                return Err(LineError::TooLong { limit: self.limit });
            }
            if !line.is_empty() {
                let len = line.len();
                return match std::str::from_utf8(&self.held[start..start + len]) {
                    Ok(line) => Ok(Some(line)),
                    Err(error) => Err(LineError::NotText { at: error.valid_up_to() }),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(splitter: &mut LineSplitter) -> Vec<String> {
        std::iter::from_fn(|| splitter.next_line().unwrap().map(str::to_owned)).collect()
    }

    #[test]
    fn both_line_ends_are_taken_and_empty_lines_left_out() {
        let mut splitter = LineSplitter::new(16);
        splitter.push(b"one\ntwo\r\n\r\n\nthr");
        assert_eq!(lines(&mut splitter), ["one", "two"]);
        splitter.push(b"ee\r");
        assert!(lines(&mut splitter).is_empty());
        splitter.push(b"\n");
        assert_eq!(lines(&mut splitter), ["three"]);
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        for end in ["\n", "\r\n"] {
            let mut splitter = LineSplitter::new(4);
            splitter.push(format!("1234{end}").as_bytes());
            assert_eq!(lines(&mut splitter), ["1234"]);
            splitter.push(format!("12345{end}").as_bytes());
            assert_eq!(splitter.next_line(), Err(LineError::TooLong { limit: 4 }));
        }
        let mut endless = LineSplitter::new(4);
        endless.push(b"123456");
        assert_eq!(endless.next_line(), Err(LineError::TooLong { limit: 4 }));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_where_they_stand() {
        let mut splitter = LineSplitter::new(16);
        splitter.push(b"{}\nab\xff\n");
        assert_eq!(splitter.next_line(), Ok(Some("{}")));
        assert_eq!(splitter.next_line(), Err(LineError::NotText { at: 2 }));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_where_the_stream_is_cut(
            lines in prop::collection::vec("[a-z]{1,20}", 0..20),
            cuts in prop::collection::vec(1usize..30, 1..40),
        ) {
            let stream: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let (mut splitter, mut found, mut rest) = (LineSplitter::new(20), Vec::new(), stream.as_bytes());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                rest = after;
                splitter.push(piece);
                while let Some(line) = splitter.next_line().unwrap() {
                    found.push(line.to_owned());
                }
            }
            prop_assert_eq!(found, lines);
        }
    }
}
