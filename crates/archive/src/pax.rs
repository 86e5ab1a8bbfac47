//! PAX extension records: `"<length> <key>=<value>\n"`, which override what a header block says.
//! See POSIX pax, "pax Extended Header", and for the vendors' keys libarchive's tar(5).

use crate::header::{Entry, Timestamp, Xattrs, owner};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The most attributes of one file. File systems keep fewer, and each is compared with all others.
const MOST_XATTRS: usize = 1000;

type Parsed<T> = Result<T, &'static str>;

/// The records in front of one entry.
#[derive(Default)]
pub(crate) struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Timestamp>,
    atime: Option<Timestamp>,
    xattrs: Xattrs,
    /// The same in libarchive's spelling, used where the first is silent.
    encoded_xattrs: Xattrs,
    pub sparse: SparseRecords,
}

/// GNU's keys for files with holes, versions 0.0, 0.1 and 1.0.
#[derive(Default)]
pub(crate) struct SparseRecords {
    pub version: (u64, u64),
    pub name: Option<Vec<u8>>,
    pub size: Option<u64>,
    /// Numbers of the map: offset and length in turn.
    pub map: Option<Vec<u64>>,
}

impl Records {
    /// Reads a whole extension header.
    pub fn parse(mut data: &[u8]) -> Parsed<Records> {
        let mut records = Records::default();
        while !data.is_empty() {
            let (key, value, rest) = record(data)?;
            records.set(key, value)?;
            data = rest;
        }
        Ok(records)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Parsed<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return replace(&mut self.xattrs, name.to_vec(), value.to_vec());
        }
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let name = percent_decoded(name).ok_or("a bad attribute name")?;
            let value = FORGIVING.decode(value).map_err(|_| "a bad attribute value")?;
            return replace(&mut self.encoded_xattrs, name, value);
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.set(key, value);
        }
        if value.is_empty() {
            return Ok(());
        }
        match key {
            b"path" => self.path = Some(without_nul(value)?),
            b"linkpath" => self.link = Some(without_nul(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(id(value)?),
            b"gid" => self.gid = Some(id(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"atime" => self.atime = Some(time(value)?),
            _ => {}
        }
        Ok(())
    }

    /// Lays the records over what the header block said; names and size are the reader's business.
    pub fn apply(self, entry: &mut Entry) {
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
        entry.atime = self.atime;
        entry.xattrs = self.xattrs;
        for (name, value) in self.encoded_xattrs {
            if !entry.xattrs.iter().any(|(known, _)| *known == name) {
                entry.xattrs.push((name, value));
            }
        }
    }
}

impl SparseRecords {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Parsed<()> {
        match key {
            b"major" => self.version.0 = decimal(value)?,
            b"minor" => self.version.1 = decimal(value)?,
            b"name" => self.name = Some(without_nul(value)?),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"offset" | b"numbytes" => {
                let map = self.map.get_or_insert_default();
                if (map.len().is_multiple_of(2)) != (key == b"offset") {
                    return Err("a sparse map out of order");
                }
                map.push(decimal(value)?);
            }
            b"map" if value.is_empty() => self.map = Some(Vec::new()),
            b"map" => self.map = Some(value.split(|&b| b == b',').map(decimal).collect::<Parsed<_>>()?),
            _ => {}
        }
        Ok(())
    }
}

/// The first record of `data`: key, value and what follows.
fn record(data: &[u8]) -> Parsed<(&[u8], &[u8], &[u8])> {
    const BAD: &str = "a malformed extension record";
    let space = data.iter().take(20).position(|&b| b == b' ').ok_or(BAD)?;
    let length = usize::try_from(decimal(&data[..space])?).map_err(|_| BAD)?;
    if length > data.len() || length < space + 4 {
        return Err(BAD);
    }
    let body = data[space + 1..length].strip_suffix(b"\n").ok_or(BAD)?;
    let equals = body.iter().position(|&b| b == b'=').filter(|&at| at > 0).ok_or(BAD)?;
    let key = &body[..equals];
    if key.contains(&0) {
        return Err(BAD);
    }
    Ok((key, &body[equals + 1..], &data[length..]))
}

fn replace(list: &mut Xattrs, name: Vec<u8>, value: Vec<u8>) -> Parsed<()> {
    list.retain(|(known, _)| *known != name);
    if list.len() >= MOST_XATTRS {
        return Err("it has more than 1000 attributes");
    }
    list.push((name, value));
    Ok(())
}

fn without_nul(value: &[u8]) -> Parsed<Vec<u8>> {
    if value.contains(&0) { Err("a name contains a NUL") } else { Ok(value.to_vec()) }
}

pub(crate) fn decimal(value: &[u8]) -> Parsed<u64> {
    const BAD: &str = "a number is not decimal";
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    let number = str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok()).ok_or(BAD)?;
    if i64::try_from(number).is_err() { Err("a number is out of range") } else { Ok(number) }
}

fn id(value: &[u8]) -> Parsed<u32> {
    owner(decimal(value)?.cast_signed())
}

/// `[-]seconds[.fraction]`, cut to nanoseconds.
fn time(value: &[u8]) -> Parsed<Timestamp> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |&b| b == b'.');
    let seconds = decimal(parts.next().unwrap_or_default())?.cast_signed();
    let mut nanoseconds = 0u32;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err("a time is malformed");
    }
    for place in 0..9 {
        nanoseconds = nanoseconds * 10 + u32::from(fraction.get(place).map_or(0, |digit| digit - b'0'));
    }
    Ok(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

/// Base 64 with and without padding: libarchive leaves it out.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn percent_decoded(name: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name.iter();
    while let Some(&byte) = rest.next() {
        let byte = if byte == b'%' {
            let digit = |b: Option<&u8>| b.and_then(|&b| char::from(b).to_digit(16));
            (digit(rest.next())? * 16 + digit(rest.next())?) as u8
        } else {
            byte
        };
        decoded.push(byte);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn line(key: &str, value: &str) -> Vec<u8> {
        let body = format!(" {key}={value}\n");
        let mut length = body.len() + 1;
        while length.to_string().len() + body.len() != length {
            length += 1;
        }
        format!("{length}{body}").into_bytes()
    }

    #[test]
    fn records() {
        let data = [
            line("path", "a/b=c\nd"),
            line("mtime", "12.5"),
            line("uid", "4000000000"),
            line("SCHILY.xattr.user.x", "1=2"),
            line("LIBARCHIVE.xattr.user.%79", "aGk"),
            line("LIBARCHIVE.xattr.user.x", "bm8="),
            line("unknown", ""),
        ]
        .concat();
        let records = Records::parse(&data).unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"a/b=c\nd"[..]));
        let mut entry = Entry::new(Kind::File, "x", 0o644);
        records.apply(&mut entry);
        assert_eq!(entry.mtime, Timestamp { seconds: 12, nanoseconds: 500_000_000 });
        assert_eq!(entry.uid, 4_000_000_000);
        let xattr = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(entry.xattrs, [xattr("user.x", "1=2"), xattr("user.y", "hi")]);
    }

    #[test]
    fn times() {
        let check = |text: &str, seconds, nanoseconds| {
            assert_eq!(time(text.as_bytes()).unwrap(), Timestamp { seconds, nanoseconds }, "{text}");
        };
        check("0", 0, 0);
        check("1.000000001", 1, 1);
        check("1.0000000019", 1, 1);
        check("-1", -1, 0);
        check("-1.25", -2, 750_000_000);
        check("7.", 7, 0);
        for bad in ["", "-", "x", "1.x", "1e3", "99999999999999999999"] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn malformed() {
        for bad in [
            &b"5 a=b\n"[..],
            b"x a=b\n",
            b"7 a=b\n",
            b"6 =ab\n",
            b"6 a=bc",
            b"99999999999999999999 a=b\n",
            b"18446744073709551615 a=b\n",
            b"0 a=b\n",
            b"3 \n",
        ] {
            assert!(Records::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(Records::parse(&line("path", "a\0b")).is_err());
        assert!(Records::parse(&line("size", "-1")).is_err());
        assert!(Records::parse(&line("uid", "4294967295")).is_err());
        assert!(Records::parse(&line("GNU.sparse.numbytes", "1")).is_err());
    }
}
