//! Values of D-Bus and how they travel: the types that properties of systemd's units have.
//!
//! Little-endian, each value aligned to its size, as in the D-Bus specification, "Marshaling". What comes back is
//! only ever a few strings and numbers, so reading knows no more than that.

use std::fmt;

use crate::error::{Error, Result};

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `y`
    Byte(u8),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `v`
    Variant(Box<Value>),
    /// `(...)`
    Tuple(Vec<Value>),
    /// `{..}`: only inside an array.
    Entry(Box<(Value, Value)>),
    /// `a` and the type of the elements, which an empty array has too.
    Array(String, Vec<Value>),
}

impl Value {
    /// A string.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// An array of strings.
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Value {
        Value::Array("s".into(), texts.into_iter().map(Value::text).collect())
    }

    /// An array of bytes.
    pub fn bytes(bytes: &[u8]) -> Value {
        Value::Array("y".into(), bytes.iter().copied().map(Value::Byte).collect())
    }

    /// The type, as D-Bus writes it.
    pub fn signature(&self) -> String {
        match self {
            Value::Bool(_) => "b".into(),
            Value::Byte(_) => "y".into(),
            Value::I16(_) => "n".into(),
            Value::U16(_) => "q".into(),
            Value::I32(_) => "i".into(),
            Value::U32(_) => "u".into(),
            Value::I64(_) => "x".into(),
            Value::U64(_) => "t".into(),
            Value::F64(_) => "d".into(),
            Value::Text(_) => "s".into(),
            Value::Path(_) => "o".into(),
            Value::Signature(_) => "g".into(),
            Value::Variant(_) => "v".into(),
            Value::Tuple(parts) => format!("({})", parts.iter().map(Value::signature).collect::<String>()),
            Value::Entry(pair) => format!("{{{}{}}}", pair.0.signature(), pair.1.signature()),
            Value::Array(of, _) => format!("a{of}"),
        }
    }

    /// Appends the value.
    pub fn put(&self, to: &mut Writer) {
        match self {
            Value::Bool(value) => to.number(u32::from(*value).to_le_bytes()),
            Value::Byte(value) => to.number([*value]),
            Value::I16(value) => to.number(value.to_le_bytes()),
            Value::U16(value) => to.number(value.to_le_bytes()),
            Value::I32(value) => to.number(value.to_le_bytes()),
            Value::U32(value) => to.number(value.to_le_bytes()),
            Value::I64(value) => to.number(value.to_le_bytes()),
            Value::U64(value) => to.number(value.to_le_bytes()),
            Value::F64(value) => to.number(value.to_le_bytes()),
            Value::Text(text) | Value::Path(text) => to.text(text),
            Value::Signature(text) => to.signature(text),
            Value::Variant(value) => {
                to.signature(&value.signature());
                value.put(to);
            }
            Value::Tuple(parts) => {
                to.align(8);
                parts.iter().for_each(|part| part.put(to));
            }
            Value::Entry(pair) => {
                to.align(8);
                pair.0.put(to);
                pair.1.put(to);
            }
            Value::Array(of, elements) => to.array(alignment(of), |to| {
                elements.iter().for_each(|element| element.put(to));
            }),
        }
    }
}

/// As `myrt plan` shows it: numbers and words as they are, lists with spaces between.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => f.write_str(if *value { "yes" } else { "no" }),
            Value::Byte(value) => write!(f, "{value:#04x}"),
            Value::I16(value) => write!(f, "{value}"),
            Value::U16(value) => write!(f, "{value}"),
            Value::I32(value) => write!(f, "{value}"),
            Value::U32(value) => write!(f, "{value}"),
            Value::I64(value) => write!(f, "{value}"),
            Value::U64(u64::MAX) => f.write_str("infinity"),
            Value::U64(value) => write!(f, "{value}"),
            Value::F64(value) => write!(f, "{value}"),
            Value::Text(text) | Value::Path(text) | Value::Signature(text) if text.contains(' ') => {
                write!(f, "{text:?}")
            }
            Value::Text(text) | Value::Path(text) | Value::Signature(text) => f.write_str(text),
            Value::Variant(value) => write!(f, "{value}"),
            Value::Entry(pair) => write!(f, "{}:{}", pair.0, pair.1),
            Value::Tuple(parts) => write!(f, "{}", joined(parts, ":")),
            Value::Array(_, elements) => write!(f, "[{}]", joined(elements, " ")),
        }
    }
}

fn joined(values: &[Value], between: &str) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// The alignment of a type.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

/// Bytes that grow.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// Fills up with zeros.
    pub fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    /// A number, aligned to its size.
    pub fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.0.extend(bytes);
    }

    fn text(&mut self, text: &str) {
        self.number((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// The length in front does not count the padding before the first element.
    fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Writer)) {
        self.number(0u32.to_le_bytes());
        let length = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        elements(self);
        let bytes = (self.0.len() - start) as u32;
        self.0[length..length + 4].copy_from_slice(&bytes.to_le_bytes());
    }
}

/// Bytes that came, read from the front. Whatever they hold, reading ends in a value or an error.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// From the first byte of a message or of a body: positions count from there.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// True when nothing is left.
    pub fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Skips padding.
    pub fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    /// Skips bytes.
    pub fn skip(&mut self, count: usize) {
        self.at += count;
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| Error::new("a message of the bus ends too early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// `y`
    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// `u`
    pub fn u32(&mut self) -> Result<u32> {
        self.align(4);
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// `s` or `o`
    pub fn text(&mut self) -> Result<&'a str> {
        let length = self.u32()? as usize;
        self.text_of(length)
    }

    /// `g`
    pub fn signature(&mut self) -> Result<&'a str> {
        let length = self.byte()? as usize;
        self.text_of(length)
    }

    fn text_of(&mut self, length: usize) -> Result<&'a str> {
        let bytes = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(bytes).map_err(|_| Error::new("a message of the bus is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut writer = Writer::default();
        value.put(&mut writer);
        writer.0
    }

    #[test]
    fn numbers_and_strings_are_aligned() {
        let value = Value::Tuple(vec![Value::Byte(1), Value::U64(2), Value::text("ab"), Value::Bool(true)]);
        assert_eq!(value.signature(), "(ytsb)");
        let expected = b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x02\0\0\0ab\0\0\x01\0\0\0";
        assert_eq!(bytes(&value), expected);
    }

    #[test]
    fn length_of_an_array_does_not_count_the_padding_before_it() {
        let pair = |a: &str, b: &str| Value::Tuple(vec![Value::text(a), Value::text(b)]);
        let value = Value::Array("(ss)".into(), vec![pair("a", "b")]);
        assert_eq!(bytes(&value), b"\x0e\0\0\0\0\0\0\0\x01\0\0\0a\0\0\0\x01\0\0\0b\0");
        let empty = Value::Array("(ss)".into(), Vec::new());
        assert_eq!((empty.signature().as_str(), bytes(&empty)), ("a(ss)", vec![0; 8]));
        assert_eq!(bytes(&Value::texts([] as [&str; 0])), [0; 4]);
    }

    #[test]
    fn a_variant_carries_its_type() {
        let value = Value::Variant(Box::new(Value::U32(7)));
        assert_eq!(bytes(&value), b"\x01u\0\0\x07\0\0\0");
        let entry = Value::Entry(Box::new((Value::text("k"), value)));
        assert_eq!(entry.signature(), "{sv}");
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        assert!(Reader::new(b"\x05\0\0\0ab").text().is_err());
        assert!(Reader::new(b"\xff\xff\xff\xffab").text().is_err());
        assert!(Reader::new(b"\x01\0\0\0\xff\0").text().is_err());
        assert_eq!(Reader::new(b"\x02\0\0\0ab\0").text().unwrap(), "ab");
        assert!(Reader::new(b"ab").u32().is_err());
    }
}
