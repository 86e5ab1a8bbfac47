//! Taking Docker's stream frames apart.

use crate::failure::{Failure, Outcome};

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    Stdout,
    Stderr,
}

const HEADER: usize = 8;

/// Splits a byte stream into pieces for stdout and stderr, whatever pieces it arrives in.
#[derive(Debug)]
pub(crate) struct Demux {
    is_raw: bool,
    header: [u8; HEADER],
    header_length: usize,
    left: usize,
    /// Text of a frame of stream 3: the daemon reports a failure in the middle of a stream.
    failure: Vec<u8>,
}

impl Demux {
    /// `is_raw`: everything is standard output.
    pub fn new(is_raw: bool) -> Demux {
        Demux { is_raw, header: [0; HEADER], header_length: 0, left: 0, failure: Vec::new() }
    }

    /// Hands on what `bytes` contain.
    pub fn feed(&mut self, mut bytes: &[u8], write: &mut dyn FnMut(Sink, &[u8]) -> Outcome) -> Outcome {
        if self.is_raw {
            return write(Sink::Stdout, bytes);
        }
        while !bytes.is_empty() {
            if self.left == 0 {
                bytes = self.take_header(bytes)?;
                continue;
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(self.left));
            self.left -= piece.len();
            bytes = rest;
            match self.header[0] {
                2 => write(Sink::Stderr, piece)?,
                3 => self.take_failure(piece)?,
                _ => write(Sink::Stdout, piece)?,
            }
        }
        Ok(())
    }

    fn take_header<'a>(&mut self, bytes: &'a [u8]) -> Outcome<&'a [u8]> {
        let (piece, rest) = bytes.split_at(bytes.len().min(HEADER - self.header_length));
        self.header[self.header_length..self.header_length + piece.len()].copy_from_slice(piece);
        self.header_length += piece.len();
        if self.header_length == HEADER {
            let [stream, _, _, _, length @ ..] = self.header;
            if stream > 3 {
                return Err(Failure::message(format!("Unrecognized input header: {stream}")));
            }
            self.left = u32::from_be_bytes(length) as usize;
            self.header_length = 0;
        }
        Ok(rest)
    }

    fn take_failure(&mut self, piece: &[u8]) -> Outcome {
        self.failure.extend_from_slice(piece);
        if self.left > 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.failure);
        Err(Failure::message(format!("error from daemon in stream: {}", text.trim_end())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(raw: bool, pieces: &[&[u8]]) -> Result<(String, String), String> {
        let mut demux = Demux::new(raw);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for piece in pieces {
            demux
                .feed(piece, &mut |sink, bytes| {
                    if sink == Sink::Stderr {
                        err.extend_from_slice(bytes)
                    } else {
                        out.extend_from_slice(bytes)
                    }
                    Ok(())
                })
                .map_err(|failure| failure.to_string())?;
        }
        Ok((String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text")))
    }

    #[test]
    fn frames_in_any_pieces() {
        let stream = b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01!";
        for size in 1..stream.len() {
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            assert_eq!(run(false, &pieces), Ok(("out!".to_owned(), "err".to_owned())), "{size}");
        }
        assert_eq!(run(true, &[b"ab", b"\x01c"]), Ok(("ab\x01c".to_owned(), String::new())));
    }

    #[test]
    fn bad_streams() {
        assert_eq!(run(false, &[b"\x07\0\0\0\0\0\0\x01x"]), Err("Unrecognized input header: 7".to_owned()));
        assert_eq!(run(false, &[b"\x03\0\0\0\0\0\0\x03b", b"ad"]), Err("error from daemon in stream: bad".to_owned()));
    }
}
