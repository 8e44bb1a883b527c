//! Values as text, in annotations: `'inactive-or-failed'`, `uint64 123456789`, `['a.service']`.
//!
//! The notation is GVariant's (docs.gtk.org/glib/gvariant-text-format.html), without what D-Bus cannot carry: maybe
//! types and handles. A number without a type is an `int32`, or a `double` if it has a point or an exponent, unless
//! an element beside it in an array, or a type in front of the whole (`@at [1, 2]`), says otherwise.

use super::value::Value;
use crate::error::{Error, Result};

/// How deep values may be nested; D-Bus itself allows 32 arrays and 32 tuples.
const DEEPEST: usize = 16;

/// Reads one value and nothing behind it.
pub fn parse(text: &str) -> Result<Value> {
    let mut parser = Parser { rest: text, depth: 0 };
    let value = parser.value().and_then(|term| {
        parser.space();
        if parser.rest.is_empty() { term.resolve(None) } else { Err(parser.unexpected()) }
    });
    value.map_err(|e| e.hint("write it as GVariant text: uint64 5, 'word', true, ['a', 'b']"))
}

/// What stands in the text, before numbers have found their type.
#[derive(Debug)]
enum Term {
    Number(String),
    Known(Value),
    Array(Vec<Term>),
    Tuple(Vec<Term>),
    Entries(Vec<(Term, Term)>),
    Variant(Box<Term>),
    /// With the type in front.
    Typed(String, Box<Term>),
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn unexpected(&self) -> Error {
        match self.rest.chars().next() {
            Some(c) => Error::new(format!("unexpected {c:?}")),
            None => Error::new("it ends too early"),
        }
    }

    fn eat(&mut self, token: char) -> bool {
        self.space();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: char) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Takes as long as `is` holds.
    fn word(&mut self, is: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !is(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_string()
    }

    fn value(&mut self) -> Result<Term> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Error::new(format!("it is nested more than {DEEPEST} deep")));
        }
        self.space();
        let term = match self.rest.chars().next() {
            Some('\'' | '"') => Term::Known(Value::Text(self.quoted()?)),
            Some('[') => Term::Array(self.list('[', ']')?.0),
            Some('(') => self.tuple()?,
            Some('{') => self.entries()?,
            Some('<') => {
                self.expect('<')?;
                let inner = self.value()?;
                self.expect('>')?;
                Term::Variant(Box::new(inner))
            }
            Some('@') => {
                self.rest = &self.rest[1..];
                let signature = self.word(|c| !c.is_whitespace());
                let one =
                    signature.len() <= 255 && type_length(signature.as_bytes()) == Some(signature.len());
                if !one {
                    return Err(Error::new(format!("{signature:?} is no type of D-Bus")));
                }
                Term::Typed(signature, Box::new(self.value()?))
            }
            Some('b') if self.rest.starts_with("b'") || self.rest.starts_with("b\"") => {
                self.rest = &self.rest[1..];
                let mut bytes = self.quoted()?.into_bytes();
                bytes.push(0);
                Term::Known(Value::bytes(&bytes))
            }
            Some(c) if c.is_ascii_digit() || "+-.".contains(c) => {
                Term::Number(self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)))
            }
            Some(c) if c.is_ascii_alphabetic() => self.keyword()?,
            _ => return Err(self.unexpected()),
        };
        self.depth -= 1;
        Ok(term)
    }

    fn keyword(&mut self) -> Result<Term> {
        let word = self.word(|c| c.is_ascii_alphanumeric());
        let signature = match word.as_str() {
            "true" | "false" => return Ok(Term::Known(Value::Bool(word == "true"))),
            "boolean" => "b",
            "byte" => "y",
            "int16" => "n",
            "uint16" => "q",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "double" => "d",
            "string" => "s",
            "objectpath" => "o",
            "signature" => "g",
            "inf" | "nan" => return Ok(Term::Number(word)),
            _ => return Err(Error::new(format!("unexpected word {word:?}"))),
        };
        Ok(Term::Typed(signature.to_string(), Box::new(self.value()?)))
    }

    fn quoted(&mut self) -> Result<String> {
        let mut text = String::new();
        let mut chars = self.rest.chars();
        let quote = chars.next();
        loop {
            match chars.next() {
                None => return Err(Error::new("a string without its closing quote")),
                c if c == quote => break,
                Some('\0') => return Err(Error::new("a string with a NUL in it")),
                Some('\\') => match chars.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some('a') => text.push('\x07'),
                    Some('b') => text.push('\x08'),
                    Some('f') => text.push('\x0c'),
                    Some('v') => text.push('\x0b'),
                    Some('\n') => {}
                    Some(width @ ('u' | 'U')) => {
                        let digits: String = chars.by_ref().take(if width == 'u' { 4 } else { 8 }).collect();
                        let c = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                        text.push(
                            c.filter(|&c| c != '\0')
                                .ok_or_else(|| Error::new(format!("\\{width}{digits} is no character")))?,
                        );
                    }
                    Some(c) => text.push(c),
                    None => return Err(Error::new("a string without its closing quote")),
                },
                Some(c) => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Ok(text)
    }

    /// Values between brackets; says also whether a comma stood behind the last.
    fn list(&mut self, open: char, close: char) -> Result<(Vec<Term>, bool)> {
        self.expect(open)?;
        let mut terms = Vec::new();
        let mut comma = false;
        while !self.eat(close) {
            if !terms.is_empty() && !comma {
                return Err(self.unexpected());
            }
            terms.push(self.value()?);
            comma = self.eat(',');
        }
        Ok((terms, comma))
    }

    fn tuple(&mut self) -> Result<Term> {
        let (terms, comma) = self.list('(', ')')?;
        match (terms.len(), comma) {
            (0, _) => Err(Error::new("D-Bus has no empty tuples")),
            (1, false) => Err(Error::new("a tuple of one is written with a comma: (1,)")),
            _ => Ok(Term::Tuple(terms)),
        }
    }

    fn entries(&mut self) -> Result<Term> {
        self.expect('{')?;
        let mut entries = Vec::new();
        while !self.eat('}') {
            if !entries.is_empty() {
                self.expect(',')?;
            }
            let key = self.value()?;
            self.expect(':')?;
            entries.push((key, self.value()?));
        }
        Ok(Term::Entries(entries))
    }
}

impl Term {
    /// The type that the term itself insists on; `None` if any would do.
    fn own_type(&self) -> Option<String> {
        match self {
            Term::Number(_) => None,
            Term::Known(value) => Some(value.signature()),
            Term::Typed(signature, _) => Some(signature.clone()),
            Term::Variant(_) => Some("v".into()),
            Term::Array(terms) => {
                terms.iter().find_map(Term::own_type).map(|signature| format!("a{signature}"))
            }
            Term::Tuple(terms) => {
                let parts: Option<String> = terms.iter().map(Term::own_type).collect();
                parts.map(|parts| format!("({parts})"))
            }
            Term::Entries(entries) => {
                let key = entries.iter().find_map(|(key, _)| key.own_type())?;
                let value = entries.iter().find_map(|(_, value)| value.own_type())?;
                Some(format!("a{{{key}{value}}}"))
            }
        }
    }

    /// The value, of the wanted type if one is wanted.
    fn resolve(self, wanted: Option<&str>) -> Result<Value> {
        let value = match self {
            Term::Number(text) => number(&text, wanted)?,
            Term::Known(Value::Text(text)) => match wanted {
                Some("o") if is_path(&text) => Value::Path(text),
                Some("g") if is_signature(&text) => Value::Signature(text),
                _ => Value::Text(text),
            },
            Term::Known(value) => value,
            Term::Typed(signature, term) => term.resolve(Some(&signature))?,
            Term::Variant(term) => Value::Variant(Box::new(term.resolve(None)?)),
            Term::Array(terms) => {
                let of = wanted.and_then(|w| w.strip_prefix('a')).map(str::to_string);
                let of = of.or_else(|| terms.iter().find_map(Term::own_type));
                array(of, terms.into_iter(), |term, of| term.resolve(of))?
            }
            Term::Tuple(terms) => {
                let inner = wanted.and_then(|w| w.strip_prefix('(')?.strip_suffix(')'));
                let mut types = inner.map(|inner| split(inner).into_iter());
                let parts = terms.into_iter().map(|t| t.resolve(types.as_mut().and_then(Iterator::next)));
                Value::Tuple(parts.collect::<Result<_>>()?)
            }
            Term::Entries(entries) => {
                let inner = wanted.and_then(|w| w.strip_prefix("a{")?.strip_suffix('}')).map(split);
                let types = match inner.as_deref() {
                    Some([key, value]) => (Some(key.to_string()), Some(value.to_string())),
                    _ => (
                        entries.iter().find_map(|(key, _)| key.own_type()),
                        entries.iter().find_map(|(_, value)| value.own_type()),
                    ),
                };
                let of = inner.map(|inner| format!("{{{}}}", inner.concat()));
                array(of, entries.into_iter(), |(key, value), _| {
                    let key = key.resolve(types.0.as_deref())?;
                    Ok(Value::Entry(Box::new((key, value.resolve(types.1.as_deref())?))))
                })?
            }
        };
        match wanted.filter(|wanted| *wanted != value.signature()) {
            Some(wanted) => {
                Err(Error::new(format!("a value of type {wanted} is wanted, not {}", value.signature())))
            }
            None => Ok(value),
        }
    }
}

/// All elements of one type: the one that is known, else that of the first.
fn array<T>(
    mut of: Option<String>,
    terms: impl Iterator<Item = T>,
    resolve: impl Fn(T, Option<&str>) -> Result<Value>,
) -> Result<Value> {
    let mut elements = Vec::new();
    for term in terms {
        let value = resolve(term, of.as_deref())?;
        let signature = value.signature();
        let of = of.get_or_insert_with(|| signature.clone());
        if *of != signature {
            return Err(Error::new(format!("an array of {of} has an element of type {signature}")));
        }
        elements.push(value);
    }
    let of = of.ok_or_else(|| Error::new("an empty array needs its type in front, as in @as []"))?;
    Ok(Value::Array(of, elements))
}

fn number(text: &str, wanted: Option<&str>) -> Result<Value> {
    let bad = || Error::new(format!("{text:?} is not a number of type {}", wanted.unwrap_or("i")));
    let float = !text.contains("0x") && text.contains(['.', 'e', 'E', 'i', 'n']);
    if wanted == Some("d") || (wanted.is_none() && float) {
        return text.parse().map(Value::F64).map_err(|_| bad());
    }
    let (minus, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return Err(bad());
    }
    let value = i128::from_str_radix(digits, radix).map_err(|_| bad())?;
    let value = if minus { -value } else { value };
    let fits = match wanted.unwrap_or("i") {
        "y" => u8::try_from(value).map(Value::Byte).ok(),
        "n" => i16::try_from(value).map(Value::I16).ok(),
        "q" => u16::try_from(value).map(Value::U16).ok(),
        "i" => i32::try_from(value).map(Value::I32).ok(),
        "u" => u32::try_from(value).map(Value::U32).ok(),
        "x" => i64::try_from(value).map(Value::I64).ok(),
        "t" => u64::try_from(value).map(Value::U64).ok(),
        _ => None,
    };
    fits.ok_or_else(bad)
}

/// The length of the one complete type at the beginning.
fn type_length(signature: &[u8]) -> Option<usize> {
    match signature.first()? {
        b'a' if signature.get(1) == Some(&b'{') => {
            let key = type_length(&signature[2..])?;
            let value = type_length(&signature[2 + key..])?;
            (signature.get(2 + key + value) == Some(&b'}')).then_some(key + value + 3)
        }
        b'a' => type_length(&signature[1..]).map(|length| length + 1),
        b'(' => {
            let mut at = 1;
            while signature.get(at) != Some(&b')') {
                at += type_length(&signature[at..])?;
            }
            (at > 1).then_some(at + 1)
        }
        b'b' | b'y' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' => Some(1),
        _ => None,
    }
}

/// The complete types of a signature that is known to be one.
fn split(mut signature: &str) -> Vec<&str> {
    let mut types = Vec::new();
    while let Some((first, rest)) =
        type_length(signature.as_bytes()).and_then(|length| signature.split_at_checked(length))
    {
        types.push(first);
        signature = rest;
    }
    types
}

fn is_signature(text: &str) -> bool {
    text.len() <= 255 && split(text).concat() == text
}

/// See the D-Bus specification, "Valid Object Paths".
fn is_path(text: &str) -> bool {
    let valid = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    text == "/" || text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(valid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(a: Value, b: Value) -> Value {
        Value::Tuple(vec![a, b])
    }

    #[test]
    fn plain_values_have_their_types() {
        for (text, value) in [
            ("uint64 123456789", Value::U64(123_456_789)),
            ("'inactive-or-failed'", Value::text("inactive-or-failed")),
            (" true ", Value::Bool(true)),
            ("-7", Value::I32(-7)),
            ("0x1f", Value::I32(31)),
            ("010", Value::I32(8)),
            ("1.5", Value::F64(1.5)),
            ("1e3", Value::F64(1000.0)),
            ("byte 0xff", Value::Byte(255)),
            ("int64 -1", Value::I64(-1)),
            ("double 3", Value::F64(3.0)),
            ("\"a\\'\\u00e4\"", Value::text("a'\u{e4}")),
            ("objectpath '/a/b_1'", Value::Path("/a/b_1".into())),
            ("signature 'a{sv}'", Value::Signature("a{sv}".into())),
            ("b'ab'", Value::bytes(b"ab\0")),
            ("<uint32 1>", Value::Variant(Box::new(Value::U32(1)))),
        ] {
            assert_eq!(parse(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn containers_find_one_type_for_all_elements() {
        let array = |of: &str, elements| Value::Array(of.into(), elements);
        for (text, value) in [
            ("['a.service', 'b.service']", Value::texts(["a.service", "b.service"])),
            ("[1, uint64 2]", array("t", vec![Value::U64(1), Value::U64(2)])),
            ("@as []", Value::texts([] as [&str; 0])),
            ("@at [1,]", array("t", vec![Value::U64(1)])),
            ("('/dev/null', 'rw')", tuple(Value::text("/dev/null"), Value::text("rw"))),
            ("@a(st) [('/dev/a', 5)]", array("(st)", vec![tuple(Value::text("/dev/a"), Value::U64(5))])),
            ("(1,)", Value::Tuple(vec![Value::I32(1)])),
            ("{'a': <1>}", {
                let pair = (Value::text("a"), Value::Variant(Box::new(Value::I32(1))));
                array("{sv}", vec![Value::Entry(Box::new(pair))])
            }),
            ("@a{sv} {}", array("{sv}", vec![])),
        ] {
            assert_eq!(parse(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn what_is_not_gvariant_text_is_refused() {
        let deep = "[".repeat(100_000);
        for bad in [
            "",
            "word",
            "'open",
            "1 2",
            "[1 2]",
            "[1, 'a']",
            "[]",
            "()",
            "(1)",
            "uint64 -1",
            "byte 256",
            "int32 x",
            "@ []",
            "@a",
            "@zz 1",
            "@s 1",
            "objectpath 'a'",
            "0x",
            "--1",
            "1.2.3",
            "nothing",
            "handle 1",
            "<1",
            "{1}",
            "{'a': 1",
            "'\\u0000'",
            "'\\ud800'",
            "'\\uzzzz'",
            "uint64",
            "[1,,2]",
            &deep,
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains("hint: write it as GVariant text"), "{error}");
        }
    }
}
