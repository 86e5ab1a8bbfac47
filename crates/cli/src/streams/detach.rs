//! The key sequence that leaves a container running and returns to the shell.

/// Looks for the sequence in what the user types. Keys that turn out not to belong to it are passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl Default for DetachKeys {
    fn default() -> Self {
        DetachKeys { keys: vec![0x10, 0x11], matched: 0 }
    }
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q` and the like: single characters or `ctrl-` with a letter or one of `@[\]^_`.
    pub fn parse(text: &str) -> Result<DetachKeys, String> {
        let keys = text.split(',').map(parse_key).collect::<Result<Vec<u8>, String>>()?;
        Ok(DetachKeys { keys, matched: 0 })
    }

    /// Appends to `output` what is meant for the container. True when the sequence is complete.
    pub fn filter(&mut self, typed: &[u8], output: &mut Vec<u8>) -> bool {
        for key in typed {
            if *key == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
                continue;
            }
            output.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if *key == self.keys[0] && self.keys.len() > 1 {
                self.matched = 1;
            } else {
                output.push(*key);
            }
        }
        false
    }
}

fn parse_key(key: &str) -> Result<u8, String> {
    let unknown = || format!("Unknown character: '{key}'");
    match key.as_bytes() {
        [single] => Ok(*single),
        _ => match key.strip_prefix("ctrl-").map(str::as_bytes) {
            Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
            Some([b'@']) => Ok(0),
            Some([sign @ b'['..=b'_']) => Ok(sign - b'[' + 27),
            _ => Err(unknown()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_keys(keys: &mut DetachKeys, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut output = Vec::new();
        let done = keys.filter(typed, &mut output);
        (output, done)
    }

    #[test]
    fn sequence() {
        let mut keys = DetachKeys::default();
        assert_eq!(type_keys(&mut keys, b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(type_keys(&mut keys, b"\x10\x11"), (b"\x10".to_vec(), true));
        let mut keys = DetachKeys::parse("ctrl-a,x").expect("valid");
        assert_eq!(type_keys(&mut keys, b"\x01y\x01x"), (b"\x01y".to_vec(), true));
    }

    #[test]
    fn names() {
        assert_eq!(DetachKeys::parse("ctrl-p,ctrl-q"), Ok(DetachKeys::default()));
        assert_eq!(DetachKeys::parse("ctrl-[,q").map(|keys| keys.keys), Ok(vec![27, b'q']));
        assert_eq!(DetachKeys::parse("ctrl-?"), Err("Unknown character: 'ctrl-?'".to_owned()));
        assert_eq!(DetachKeys::parse("zz"), Err("Unknown character: 'zz'".to_owned()));
    }
}
