//! Requests in a stream of bytes to Redis: where one ends and the next begins. Pure.
//!
//! Only what a client sends in whole arrays of strings is understood; after anything
//! else the rest of the stream is left alone.

/// No batch of purchases comes near.
const REQUEST_BYTES_MAX: usize = 8 << 20;

#[derive(Default)]
pub struct Requests {
    bytes: Vec<u8>,
    lost: bool,
}

impl Requests {
    /// Takes what came; gives back the script calls that it completed.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut calls = Vec::new();
        if self.lost {
            return calls;
        }
        self.bytes.extend_from_slice(bytes);
        let mut from = 0;
        loop {
            match request(&self.bytes[from..]) {
                Ok(Some(found)) => {
                    if found.is_call {
                        calls.push(self.bytes[from..from + found.length].to_vec());
                    }
                    from += found.length;
                }
                Ok(None) if self.bytes.len() - from <= REQUEST_BYTES_MAX => break,
                Ok(None) | Err(Strange) => {
                    self.lost = true;
                    self.bytes = Vec::new();
                    return calls;
                }
            }
        }
        self.bytes.drain(..from);
        calls
    }
}

struct Strange;

struct Found {
    length: usize,
    is_call: bool,
}

/// The first request, if all of it is there.
fn request(bytes: &[u8]) -> Result<Option<Found>, Strange> {
    let Some((count, mut at)) = number(bytes, 0, b'*')? else {
        return Ok(None);
    };
    let mut is_call = false;
    for no in 0..count {
        let Some((length, start)) = number(bytes, at, b'$')? else {
            return Ok(None);
        };
        let end = start.checked_add(length).ok_or(Strange)?;
        match bytes.get(end..end.saturating_add(2)) {
            None => return Ok(None),
            Some(b"\r\n") => {}
            Some(_) => return Err(Strange),
        }
        is_call |= no == 0 && bytes[start..end].eq_ignore_ascii_case(b"EVALSHA");
        at = end + 2;
    }
    Ok(Some(Found {
        length: at,
        is_call,
    }))
}

/// A line `*12` or `$12`: the number, and where the next line begins.
fn number(bytes: &[u8], at: usize, kind: u8) -> Result<Option<(usize, usize)>, Strange> {
    let rest = &bytes[at..];
    match rest.first() {
        None => return Ok(None),
        Some(first) if *first != kind => return Err(Strange),
        Some(_) => {}
    }
    // 20 digits are more than any length has.
    let Some(end) = rest.iter().take(24).position(|byte| *byte == b'\r') else {
        return if rest.len() < 24 {
            Ok(None)
        } else {
            Err(Strange)
        };
    };
    if rest.len() < end + 2 {
        return Ok(None);
    }
    let digits = std::str::from_utf8(&rest[1..end]).map_err(|_| Strange)?;
    let number = digits.parse().map_err(|_| Strange)?;
    Ok(Some((number, at + end + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
    const CALL: &[u8] = b"*3\r\n$7\r\nEVALSHA\r\n$3\r\nabc\r\n$4\r\n\r\n*1\r\n";

    #[test]
    fn calls_are_found_whole_however_the_stream_is_cut() {
        let stream = [PING, CALL, PING, CALL].concat();
        for step in 1..stream.len() {
            let mut requests = Requests::default();
            let calls: Vec<_> = stream
                .chunks(step)
                .flat_map(|bytes| requests.feed(bytes))
                .collect();
            assert_eq!(calls, [CALL, CALL], "in pieces of {step}");
        }
    }

    #[test]
    fn what_is_no_request_ends_it() {
        for strange in [
            &b"PING\r\n"[..],
            b"*1\r\n:4\r\n",
            b"*x\r\n",
            b"*1\r\n$1\r\nabc",
        ] {
            let mut requests = Requests::default();
            assert_eq!(requests.feed(strange), Vec::<Vec<u8>>::new());
            assert_eq!(requests.feed(CALL), Vec::<Vec<u8>>::new());
        }
    }
}
