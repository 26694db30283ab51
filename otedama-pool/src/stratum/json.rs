//! What all dialects share: calls and answers as JSON objects, and readers of their fields.
//!
//! A line is a call (`method`, with an `id` if it wants an answer) or an answer (`result` or `error`).
//! The dialects differ in the envelope around them, [`Form`]; decoding takes every form.

use otedama_core::{Hash256, Target};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::error::{DecodeError, shorten};

/// A call's `id`: whatever JSON the caller chose, kept as text, so that the answer repeats it verbatim.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Id(Box<RawValue>);

impl Id {
    /// This number.
    pub fn number(number: u64) -> Id {
        Id(RawValue::from_string(number.to_string()).expect("a number is JSON"))
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The number, if it is one below 2^64; a number in quotes counts (some pools quote them).
    pub fn as_number(&self) -> Option<u64> {
        self.text().trim_matches('"').parse().ok()
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Id) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Id {}

/// One line, before a dialect looks at it.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A request, or a notification if it has no id.
    Call(Call),
    /// The answer to a call.
    Answer(Answer),
}

/// A method called.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The id to answer with; `None` (absent or null) if no answer is wanted.
    pub id: Option<Id>,
    /// The method's name.
    pub method: String,
    /// Its parameters; null if absent.
    pub params: Value,
    /// The worker's name beside the parameters (eth-proxy has it there).
    pub worker: Option<String>,
}

/// What a call led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The call's id.
    pub id: Option<Id>,
    /// Its result (null if absent), or the error.
    pub outcome: Result<Value, WireError>,
}

/// An error as the other side put it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", code.map(|code| format!(" (code {code})")).unwrap_or_default())]
pub struct WireError {
    /// Its number, if it has one.
    pub code: Option<i64>,
    /// Its text.
    pub message: String,
}

/// A line that could not be used, with the id to say so to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct BadLine {
    /// The call's id, if the line got that far.
    pub id: Option<Id>,
    /// What is wrong.
    pub error: DecodeError,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    method: Value,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Value,
    #[serde(default)]
    worker: Value,
}

impl Frame {
    /// Reads a line.
    ///
    /// # Errors
    /// If it is not a JSON object, or its method is not a string.
    pub fn parse(line: &str) -> Result<Frame, BadLine> {
        let not_json = |words: String| BadLine { id: None, error: DecodeError::NotJson(words) };
        // A list of the fields' values would pass for an object.
        if !line.trim_start().starts_with('{') {
            return Err(not_json("it does not begin with a brace".to_owned()));
        }
        let raw: Raw<'_> = serde_json::from_str(line).map_err(|error| not_json(error.to_string()))?;
        let id = raw.id.map(|id| Id(id.to_owned()));
        match raw.method {
            Value::Null => {
                let outcome = match WireError::from_value(&raw.error) {
                    Some(error) => Err(error),
                    None => Ok(raw.result),
                };
                Ok(Frame::Answer(Answer { id, outcome }))
            }
            Value::String(method) => {
                let worker = raw.worker.as_str().map(str::to_owned);
                Ok(Frame::Call(Call { id, method, params: raw.params, worker }))
            }
            other => Err(BadLine { id, error: DecodeError::Method(shorten(&other)) }),
        }
    }
}

impl WireError {
    /// Reads `[code, text, ...]`, `{"code", "message"}` or a bare text; `None` for null.
    fn from_value(value: &Value) -> Option<WireError> {
        let text = |value: Option<&Value>| match value {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => "no reason given".to_owned(),
            Some(other) => shorten(other),
        };
        match value {
            Value::Null | Value::Bool(false) => None,
            Value::Array(list) => {
                Some(WireError { code: list.first().and_then(Value::as_i64), message: text(list.get(1)) })
            }
            Value::Object(fields) => Some(WireError {
                code: fields.get("code").and_then(Value::as_i64),
                message: text(fields.get("message")),
            }),
            other => Some(WireError { code: None, message: text(Some(other)) }),
        }
    }
}

/// The envelope a dialect puts around calls and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `"id":null` on notifications, `"error":null` on success, errors as `[code, text, null]`.
    Array,
    /// JSON-RPC 2.0: `"jsonrpc":"2.0"`, no id on notifications, errors as objects.
    Rpc2,
    /// EthereumStratum/2.0.0: as JSON-RPC 2.0 without that member and without what is null.
    Bare,
}

/// A call as a line, without its end.
pub(crate) fn call(form: Form, id: Option<&Id>, method: &str, params: &impl Serialize) -> String {
    call_by(form, id, method, params, None)
}

/// A call with the worker's name beside its parameters.
pub(crate) fn call_by(
    form: Form,
    id: Option<&Id>,
    method: &str,
    params: &impl Serialize,
    worker: Option<&str>,
) -> String {
    let id = match (id, form) {
        (None, Form::Array) => Some(None),
        (None, _) => None,
        (id, _) => Some(id),
    };
    line(&CallOut { id, jsonrpc: version(form), method, params, worker })
}

/// An answer as a line, without its end.
pub(crate) fn answer(form: Form, id: Option<&Id>, outcome: Result<&impl Serialize, &WireError>) -> String {
    match (form, outcome) {
        (Form::Bare, Ok(result)) => line(&BareResult { id, result }),
        (_, Ok(result)) => line(&AnswerOut { id, jsonrpc: version(form), result, error: None::<()> }),
        (Form::Array, Err(WireError { code, message })) => {
            let error = Some((code.unwrap_or(20), message, None::<()>));
            line(&AnswerOut { id, jsonrpc: None, result: None::<()>, error })
        }
        (_, Err(WireError { code, message })) => {
            let error = ErrorOut { code: code.unwrap_or(-1), message };
            line(&ErrorAnswer { id, jsonrpc: version(form), error })
        }
    }
}

/// A success that carries nothing (EthereumStratum/2.0.0).
pub(crate) fn bare_success(id: Option<&Id>) -> String {
    #[derive(Serialize)]
    struct Success<'a> {
        id: Option<&'a Id>,
    }
    line(&Success { id })
}

fn version(form: Form) -> Option<&'static str> {
    (form == Form::Rpc2).then_some("2.0")
}

#[derive(Serialize)]
struct CallOut<'a, P> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Option<&'a Id>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jsonrpc: Option<&'static str>,
    method: &'a str,
    params: &'a P,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'a str>,
}

#[derive(Serialize)]
struct AnswerOut<'a, R, E> {
    id: Option<&'a Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jsonrpc: Option<&'static str>,
    result: R,
    error: Option<E>,
}

#[derive(Serialize)]
struct BareResult<'a, R> {
    id: Option<&'a Id>,
    result: R,
}

#[derive(Serialize)]
struct ErrorAnswer<'a> {
    id: Option<&'a Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jsonrpc: Option<&'static str>,
    error: ErrorOut<'a>,
}

#[derive(Serialize)]
struct ErrorOut<'a> {
    code: i64,
    message: &'a str,
}

fn line(object: &impl Serialize) -> String {
    // Maps with string keys, strings and numbers: nothing of it can fail to be written.
    serde_json::to_string(object).expect("the messages of this crate are JSON")
}

/// A number as people write it: whole if it is, else a plain decimal. Firmware reads no exponents.
pub(crate) fn decimal(number: f64) -> Box<RawValue> {
    let text = if number.fract() == 0.0 && number.abs() < 1e18 {
        format!("{}", number as i64)
    } else {
        format!("{number}")
    };
    RawValue::from_string(text).or_else(|_| to_raw_value(&0)).expect("zero is JSON")
}

/// A call's parameters, by place or by name.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    method: &'a str,
    values: &'a Value,
}

impl<'a> Params<'a> {
    /// Parameters in a list; absent ones are an empty list.
    pub(crate) fn list(method: &'a str, values: &'a Value) -> Result<Params<'a>, DecodeError> {
        Params::checked(method, values, values.is_array(), "a list")
    }

    /// Parameters by name; absent ones are an empty object.
    pub(crate) fn object(method: &'a str, values: &'a Value) -> Result<Params<'a>, DecodeError> {
        Params::checked(method, values, values.is_object(), "an object")
    }

    fn checked(
        method: &'a str,
        values: &'a Value,
        fits: bool,
        expected: &'static str,
    ) -> Result<Params<'a>, DecodeError> {
        if fits || values.is_null() {
            Ok(Params { method, values })
        } else {
            Err(Field { method, name: "params", value: Some(values) }.wrong(expected))
        }
    }

    /// The parameter at this place.
    pub(crate) fn at(&self, index: usize, name: &'static str) -> Field<'a> {
        Field { method: self.method, name, value: self.values.get(index).filter(|value| !value.is_null()) }
    }

    /// The parameter of this name.
    pub(crate) fn named(&self, name: &'static str) -> Field<'a> {
        Field { method: self.method, name, value: self.values.get(name).filter(|value| !value.is_null()) }
    }
}

/// One parameter or result, read with an error that names it. Null counts as absent; numbers in quotes
/// count as numbers and numbers as text.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    method: &'a str,
    name: &'static str,
    value: Option<&'a Value>,
}

/// The longest name, job id or text kept from the other side, in bytes.
pub const MAX_TEXT_BYTES: usize = 512;

impl<'a> Field<'a> {
    /// A value that is no parameter, such as a result.
    pub(crate) fn of(method: &'a str, name: &'static str, value: &'a Value) -> Field<'a> {
        Field { method, name, value: Some(value).filter(|value| !value.is_null()) }
    }

    /// This field, if it is there.
    pub(crate) fn optional(self) -> Option<Field<'a>> {
        self.value.map(|_| self)
    }

    /// The value.
    pub(crate) fn value(self, expected: &'static str) -> Result<&'a Value, DecodeError> {
        self.value.ok_or_else(|| DecodeError::Missing {
            method: shorten_text(self.method),
            field: self.name,
            expected,
        })
    }

    /// The refusal of this field.
    pub(crate) fn wrong(self, expected: &'static str) -> DecodeError {
        match self.value {
            None => DecodeError::Missing { method: shorten_text(self.method), field: self.name, expected },
            Some(value) => DecodeError::Field {
                method: shorten_text(self.method),
                field: self.name,
                found: shorten(value),
                expected,
            },
        }
    }

    /// A text of at most [`MAX_TEXT_BYTES`].
    pub(crate) fn text(self) -> Result<String, DecodeError> {
        match self.value("a string")? {
            Value::String(text) if text.len() <= MAX_TEXT_BYTES => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(self.wrong("a string of at most 512 bytes")),
        }
    }

    /// A text, or nothing; what is no text counts as nothing.
    pub(crate) fn text_or_empty(self) -> String {
        self.optional().and_then(|field| field.text().ok()).unwrap_or_default()
    }

    /// A number.
    pub(crate) fn number(self) -> Result<f64, DecodeError> {
        let number = match self.value("a number")? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|number| number.is_finite()).ok_or_else(|| self.wrong("a number"))
    }

    /// A whole number below 2^64.
    pub(crate) fn whole(self) -> Result<u64, DecodeError> {
        let number = match self.value("a whole number")? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.wrong("a whole number"))
    }

    /// A truth value; 0, 1, "0" and "1" count.
    pub(crate) fn truth(self) -> Result<bool, DecodeError> {
        match self.value("true or false")? {
            Value::Bool(truth) => Ok(*truth),
            Value::Number(number) if number.as_u64() == Some(0) => Ok(false),
            Value::Number(number) if number.as_u64() == Some(1) => Ok(true),
            Value::String(text) if text == "0" || text == "false" => Ok(false),
            Value::String(text) if text == "1" || text == "true" => Ok(true),
            _ => Err(self.wrong("true or false")),
        }
    }

    /// Hex digits, `0x` before them or not.
    pub(crate) fn digits(self, expected: &'static str) -> Result<&'a str, DecodeError> {
        let Value::String(text) = self.value(expected)? else { return Err(self.wrong(expected)) };
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(digits)
        } else {
            Err(self.wrong(expected))
        }
    }

    /// Bytes in hex, at most `max` of them.
    pub(crate) fn bytes(self, max: usize, expected: &'static str) -> Result<Vec<u8>, DecodeError> {
        let digits = self.digits(expected)?;
        let bytes = hex::decode(digits).map_err(|_| self.wrong(expected))?;
        if bytes.len() <= max { Ok(bytes) } else { Err(self.wrong(expected)) }
    }

    /// `N` bytes in hex, in the order they stand.
    pub(crate) fn array<const N: usize>(self, expected: &'static str) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        hex::decode_to_slice(self.digits(expected)?, &mut bytes).map_err(|_| self.wrong(expected))?;
        Ok(bytes)
    }

    /// 32 bytes in hex, in the order they stand.
    pub(crate) fn hash(self) -> Result<Hash256, DecodeError> {
        self.array("64 hex digits").map(Hash256::from_raw)
    }

    /// A 32-bit number in exactly 8 hex digits.
    pub(crate) fn word(self) -> Result<u32, DecodeError> {
        self.array("8 hex digits").map(u32::from_be_bytes)
    }

    /// A 64-bit number in 1 to 16 hex digits.
    pub(crate) fn long(self) -> Result<u64, DecodeError> {
        let expected = "1 to 16 hex digits";
        u64::from_str_radix(self.digits(expected)?, 16).map_err(|_| self.wrong(expected))
    }

    /// A target in 1 to 64 hex digits, most significant first.
    pub(crate) fn target(self) -> Result<Target, DecodeError> {
        let expected = "a number from 1 to 2^256 - 1 in hex";
        self.digits(expected)?.parse().map_err(|_| self.wrong(expected))
    }

    /// The items of a list of at most `max`.
    pub(crate) fn items(self, max: usize, expected: &'static str) -> Result<Vec<Field<'a>>, DecodeError> {
        match self.value(expected)? {
            Value::Array(list) if list.len() <= max => {
                Ok(list.iter().map(|value| Field { value: Some(value), ..self }).collect())
            }
            _ => Err(self.wrong(expected)),
        }
    }
}

fn shorten_text(text: &str) -> String {
    if text.chars().count() <= 40 {
        text.to_owned()
    } else {
        text.chars().take(40).chain("...".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn id_of(line: &str) -> Option<Id> {
        match Frame::parse(line).unwrap() {
            Frame::Call(call) => call.id,
            Frame::Answer(answer) => answer.id,
        }
    }

    #[test]
    fn an_id_of_any_type_is_repeated_as_it_was_written() {
        for id in [
            "1",
            "\"a\\u0041\"",
            "1.50",
            "123456789012345678901234567890",
            "[1, 2]",
            "{\"a\":1}",
            "true",
            "-0",
        ] {
            let found = id_of(&format!("{{\"id\": {id} ,\"method\":\"m\"}}")).unwrap();
            assert_eq!(found.text(), id);
            let line = answer(Form::Array, Some(&found), Ok(&true));
            assert_eq!(line, format!("{{\"id\":{id},\"result\":true,\"error\":null}}"));
        }
        assert_eq!(id_of("{\"id\":null,\"method\":\"m\"}"), None);
        assert_eq!(id_of("{\"method\":\"m\"}"), None);
        assert_eq!(id_of("{\"id\":\"7\",\"result\":1}").unwrap().as_number(), Some(7));
    }

    #[test]
    fn errors_of_every_shape_are_understood() {
        let error = |text: &str| match Frame::parse(&format!("{{\"id\":1,\"result\":null,\"error\":{text}}}"))
        {
            Ok(Frame::Answer(answer)) => answer.outcome.unwrap_err().to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(error("[23,\"Low\",null]"), "Low (code 23)");
        assert_eq!(error("{\"code\":-1,\"message\":\"Low\"}"), "Low (code -1)");
        assert_eq!(error("{\"message\":\"Low\"}"), "Low");
        assert_eq!(error("\"Low\""), "Low");
        assert_eq!(error("[]"), "no reason given");
        assert_eq!(error("17"), "17");
    }

    #[test]
    fn every_form_is_written_as_its_dialect_has_it() {
        let (id, error) = (Id::number(3), WireError { code: Some(21), message: "gone".to_owned() });
        let refused = |form| answer(form, Some(&id), Err::<&(), _>(&error));
        assert_eq!(refused(Form::Array), r#"{"id":3,"result":null,"error":[21,"gone",null]}"#);
        assert_eq!(refused(Form::Rpc2), r#"{"id":3,"jsonrpc":"2.0","error":{"code":21,"message":"gone"}}"#);
        assert_eq!(refused(Form::Bare), r#"{"id":3,"error":{"code":21,"message":"gone"}}"#);
        assert_eq!(
            answer(Form::Rpc2, Some(&id), Ok(&1)),
            r#"{"id":3,"jsonrpc":"2.0","result":1,"error":null}"#
        );
        assert_eq!(answer(Form::Bare, Some(&id), Ok(&1)), r#"{"id":3,"result":1}"#);
        assert_eq!(bare_success(Some(&id)), r#"{"id":3}"#);
        assert_eq!(call(Form::Array, None, "m", &(1,)), r#"{"id":null,"method":"m","params":[1]}"#);
        assert_eq!(call(Form::Rpc2, None, "m", &(1,)), r#"{"jsonrpc":"2.0","method":"m","params":[1]}"#);
        assert_eq!(call(Form::Bare, Some(&id), "m", &(1,)), r#"{"id":3,"method":"m","params":[1]}"#);
    }

    #[test]
    fn numbers_are_written_without_exponents() {
        let text = |number| decimal(number).get().to_owned();
        assert_eq!(text(1024.0), "1024");
        assert_eq!(text(0.001), "0.001");
        assert_eq!(text(1e-9), "0.000000001");
        assert_eq!(text(1e17), "100000000000000000");
        assert_eq!(text(1.5), "1.5");
    }

    proptest! {
        #[test]
        fn a_number_is_read_as_it_was_written(number in 1e-300f64..1e300, exponent in -60i32..60) {
            for number in [number, number.fract().abs().max(1e-9) * 2f64.powi(exponent)] {
                let read: Value = serde_json::from_str(decimal(number).get()).unwrap();
                prop_assert_eq!(read.as_f64(), Some(number));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_expected() {
        let values = json!(["f15f15", null, 7, "x", [1]]);
        let params = Params::list("mining.submit", &values).unwrap();
        let error = params.at(0, "nonce").word().unwrap_err().to_string();
        assert_eq!(error, "mining.submit: nonce is \"f15f15\": expected 8 hex digits");
        let error = params.at(1, "job id").text().unwrap_err().to_string();
        assert_eq!(error, "mining.submit: job id is missing: expected a string");
        assert_eq!(params.at(2, "job id").text().unwrap(), "7");
        assert!(params.at(3, "n").number().is_err() && params.at(4, "n").text().is_err());
        assert!(params.at(9, "n").optional().is_none());
        assert!(Params::list("m", &json!({})).is_err() && Params::object("m", &json!([])).is_err());
        assert!(Params::list("m", &Value::Null).unwrap().at(0, "n").optional().is_none());
        let error = Frame::parse("[1]").unwrap_err().to_string();
        assert!(error.starts_with("line is not a JSON object: "), "{error}");
        assert!(Frame::parse("{\"method\":5}").is_err());
    }
}
