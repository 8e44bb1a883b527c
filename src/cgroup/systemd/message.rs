//! Messages of D-Bus: calls as they are sent, and what comes back. See the D-Bus specification, "Message Format".

use super::value::{Reader, Value, Writer};
use crate::error::{Error, Result};

/// The longest message that is read: far more than systemd says about any unit.
const LONGEST: usize = 1 << 20;

/// What every message begins with: endianness, type, flags, version, length of the body, serial, length of the fields.
const PREFIX: usize = 16;

const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

// The header's fields that this side writes or reads.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub struct Callee<'a> {
    /// The name on the bus; nobody needs one where there are only two sides.
    pub name: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
}

/// Writes one method call; `named` if there is a broker that needs to know for whom it is.
pub fn call(serial: u32, to: &Callee<'_>, member: &str, named: bool, arguments: &[Value]) -> Vec<u8> {
    let mut body = Writer::default();
    arguments.iter().for_each(|argument| argument.put(&mut body));
    let field = |code, value| Value::Tuple(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
    let mut fields = vec![
        field(PATH, Value::Path(to.path.into())),
        field(INTERFACE, Value::text(to.interface)),
        field(MEMBER, Value::text(member)),
    ];
    if named {
        fields.push(field(DESTINATION, Value::text(to.name)));
    }
    let signature: String = arguments.iter().map(Value::signature).collect();
    if !signature.is_empty() {
        fields.push(field(SIGNATURE, Value::Signature(signature)));
    }
    let mut message = Writer(vec![b'l', CALL, 0, 1]);
    Value::U32(body.0.len() as u32).put(&mut message);
    Value::U32(serial).put(&mut message);
    Value::Array("(yv)".into(), fields).put(&mut message);
    message.align(8);
    message.0.extend(body.0);
    message.0
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// The answer to a call: its serial, who answers, the body.
    Return { to: u32, sender: String, body: Vec<u8> },
    /// The refusal of a call: its serial, the error's name, what it says.
    Error { to: u32, name: String, text: String },
    /// Something that happened.
    Signal { member: String, sender: String, body: Vec<u8> },
}

/// How long the message at the beginning is; `None` while too little of it is there.
pub fn length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(prefix) = bytes.get(..PREFIX) else { return Ok(None) };
    if prefix[0] != b'l' || prefix[3] != 1 {
        return Err(Error::new("the bus speaks another protocol"));
    }
    let number =
        |at| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]) as usize;
    let (body, fields) = (number(4), number(12));
    if body > LONGEST || fields > LONGEST {
        return Err(Error::new("the bus sent a message that is too long"));
    }
    Ok(Some((PREFIX + fields).next_multiple_of(8) + body))
}

/// Reads one whole message; `None` for kinds that nobody waits for.
pub fn read(message: &[u8]) -> Result<Option<Incoming>> {
    let mut reader = Reader::new(message);
    reader.byte()?;
    let kind = reader.byte()?;
    reader.align(4);
    let body_length = reader.u32()? as usize;
    reader.u32()?;
    let end = reader.u32()? as usize + PREFIX;
    let mut fields =
        Reader::new(message.get(..end).ok_or_else(|| Error::new("a header that ends too early"))?);
    fields.skip(PREFIX);
    let (mut to, mut texts) = (0, <[String; 9]>::default());
    while !fields.is_empty() {
        fields.align(8);
        let code = fields.byte()?;
        match fields.signature()? {
            "u" if code == REPLY_SERIAL => to = fields.u32()?,
            "u" => drop(fields.u32()?),
            "s" | "o" => keep(&mut texts, code, fields.text()?),
            "g" => keep(&mut texts, code, fields.signature()?),
            other => return Err(Error::new(format!("a header with a field of type {other:?}"))),
        }
    }
    let body =
        message.len().checked_sub(body_length).map(|start| message[start..].to_vec()).unwrap_or_default();
    let text = |code: u8| texts[code as usize].clone();
    Ok(match kind {
        RETURN => Some(Incoming::Return { to, sender: text(SENDER), body }),
        ERROR => {
            // The first argument, if there is one, is for people.
            let words = match text(SIGNATURE).starts_with('s') {
                true => Reader::new(&body).text()?.to_string(),
                false => String::new(),
            };
            Some(Incoming::Error { to, name: text(ERROR_NAME), text: words })
        }
        SIGNAL => Some(Incoming::Signal { member: text(MEMBER), sender: text(SENDER), body }),
        _ => None,
    })
}

fn keep(texts: &mut [String; 9], code: u8, text: &str) {
    if let Some(place) = texts.get_mut(code as usize) {
        *place = text.to_string();
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A signal as the other side sends it.
    pub fn signal(member: &str, sender: &str, arguments: &[Value]) -> Vec<u8> {
        answer(SIGNAL, &[(MEMBER, Value::text(member)), (SENDER, Value::text(sender))], arguments)
    }

    /// An answer as the other side sends it.
    pub fn answer_to(serial: u32, sender: &str, arguments: &[Value]) -> Vec<u8> {
        answer(RETURN, &[(REPLY_SERIAL, Value::U32(serial)), (SENDER, Value::text(sender))], arguments)
    }

    /// A refusal as the other side sends it.
    pub fn error_to(serial: u32, name: &str, text: &str) -> Vec<u8> {
        let fields = [(REPLY_SERIAL, Value::U32(serial)), (ERROR_NAME, Value::text(name))];
        answer(ERROR, &fields, &[Value::text(text)])
    }

    const HELLO: Callee = Callee { name: "org.a", path: "/a", interface: "org.a" };

    /// A message as the other side writes it, made from a call of ours.
    fn answer(kind: u8, extra: &[(u8, Value)], arguments: &[Value]) -> Vec<u8> {
        let mut body = Writer::default();
        arguments.iter().for_each(|argument| argument.put(&mut body));
        let field = |code, value: &Value| {
            Value::Tuple(vec![Value::Byte(code), Value::Variant(Box::new(value.clone()))])
        };
        let mut fields: Vec<Value> = extra.iter().map(|(code, value)| field(*code, value)).collect();
        let signature: String = arguments.iter().map(Value::signature).collect();
        fields.push(field(SIGNATURE, &Value::Signature(signature)));
        let mut message = Writer(vec![b'l', kind, 0, 1]);
        Value::U32(body.0.len() as u32).put(&mut message);
        Value::U32(9).put(&mut message);
        Value::Array("(yv)".into(), fields).put(&mut message);
        message.align(8);
        message.0.extend(body.0);
        message.0
    }

    #[test]
    fn a_call_is_written_as_the_specification_says() {
        let bytes = call(1, &HELLO, "M", true, &[Value::text("x")]);
        let mut expected = b"l\x01\0\x01\x06\0\0\0\x01\0\0\0\x47\0\0\0".to_vec();
        expected.extend(b"\x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0");
        expected.extend(b"\x02\x01s\0\x05\0\0\0org.a\0\0\0");
        expected.extend(b"\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0");
        expected.extend(b"\x06\x01s\0\x05\0\0\0org.a\0\0\0");
        expected.extend(b"\x08\x01g\0\x01s\0\0");
        expected.extend(b"\x01\0\0\0x\0");
        assert_eq!(bytes, expected);
        assert_eq!(length(&bytes).unwrap(), Some(bytes.len()));
        assert_eq!(length(&bytes[..15]).unwrap(), None);
    }

    #[test]
    fn answers_errors_and_signals_are_read() {
        let to = (REPLY_SERIAL, Value::U32(7));
        let sender = (SENDER, Value::text(":1.0"));
        let bytes = answer(RETURN, &[to.clone(), sender.clone()], &[Value::Path("/job/1".into())]);
        let Some(Incoming::Return { to: 7, sender: by, body }) = read(&bytes).unwrap() else { panic!() };
        assert_eq!((by.as_str(), Reader::new(&body).text().unwrap()), (":1.0", "/job/1"));

        let bytes = answer(ERROR, &[to, (ERROR_NAME, Value::text("org.Bad"))], &[Value::text("no")]);
        let expected = Incoming::Error { to: 7, name: "org.Bad".into(), text: "no".into() };
        assert_eq!(read(&bytes).unwrap(), Some(expected));

        let bytes = answer(SIGNAL, &[sender, (MEMBER, Value::text("JobRemoved"))], &[Value::U32(1)]);
        let Some(Incoming::Signal { member, .. }) = read(&bytes).unwrap() else { panic!() };
        assert_eq!(member, "JobRemoved");
        assert_eq!(read(&answer(CALL, &[], &[])).unwrap(), None);
    }

    #[test]
    fn broken_messages_are_errors_and_nothing_worse() {
        let whole = answer(RETURN, &[(REPLY_SERIAL, Value::U32(7))], &[Value::text("text")]);
        for end in 0..whole.len() {
            // Cut short anywhere: an error or a message without what is missing, never a panic.
            drop(read(&whole[..end]));
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 0xff;
            drop((read(&broken), length(&broken)));
        }
        assert!(length(b"B\x01\0\x01aaaaaaaaaaaa").is_err());
        assert!(length(b"l\x01\0\x01\xff\xff\xff\xffaaaaaaaa").is_err());
    }
}
