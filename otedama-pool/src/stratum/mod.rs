//! The dialects' messages, typed, and their codecs: text to message and back, no I/O and no clock.
//!
//! Every dialect is two message types, what a miner says and what a pool says; [`decode`] reads either,
//! [`Message::encode`] writes it, and answers to calls are an [`Answer`] whose typed results stand beside
//! the messages. What is tolerated: absent parameters, numbers in quotes, parameters beyond the known,
//! upper-case hex, an absent `jsonrpc`. What is not is refused with one line that names the field.

pub mod bitcoin;
pub mod error;
pub mod ethereum;
pub mod json;
pub mod kawpow;
pub mod line;
pub mod monero;

pub use error::{DecodeError, Dialect, RejectReason};
pub use json::{Answer, BadLine, Call, Form, Frame, Id, WireError};
pub use line::{LineError, LineSplitter, MINER_LINE_BYTES, POOL_LINE_BYTES};

/// What one end of a dialect says unasked: requests and notifications.
pub trait Message: Sized {
    /// Reads a call.
    ///
    /// # Errors
    /// If the method is not one of this end's, or a field is not what it must be.
    fn read(call: &Call) -> Result<Self, DecodeError>;

    /// Writes it as a line, without its end; with an id it wants an answer.
    fn encode(&self, id: Option<&Id>) -> String;
}

/// A line that arrived.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming<M> {
    /// A message, with the id to answer with if it wants an answer.
    Message(Option<Id>, M),
    /// The answer to a call of ours.
    Answer(Answer),
}

/// Reads a line.
///
/// # Errors
/// If it is not JSON or not a message of the dialect.
pub fn decode<M: Message>(line: &str) -> Result<Incoming<M>, BadLine> {
    match Frame::parse(line)? {
        Frame::Answer(answer) => Ok(Incoming::Answer(answer)),
        Frame::Call(call) => read(call),
    }
}

/// Reads a call of a dialect that is known by now.
pub(crate) fn read<M: Message>(call: Call) -> Result<Incoming<M>, BadLine> {
    match M::read(&call) {
        Ok(message) => Ok(Incoming::Message(call.id, message)),
        Err(error) => Err(BadLine { id: call.id, error }),
    }
}

impl Dialect {
    /// The envelope this dialect uses.
    pub fn form(self) -> Form {
        match self {
            Dialect::Bitcoin | Dialect::NiceHash | Dialect::KawPow => Form::Array,
            Dialect::EthProxy | Dialect::Monero => Form::Rpc2,
            Dialect::Eip1571 => Form::Bare,
        }
    }

    /// An answer that carries a result.
    pub fn success(self, id: Option<&Id>, result: &impl serde::Serialize) -> String {
        json::answer(self.form(), id, Ok(result))
    }

    /// An answer that carries an error.
    pub fn failure(self, id: Option<&Id>, error: &WireError) -> String {
        json::answer(self.form(), id, Err::<&(), _>(error))
    }

    /// The answer to a share that counts.
    pub fn accepted(self, id: Option<&Id>) -> String {
        match self {
            Dialect::Monero => self.success(id, &monero::Status::OK),
            Dialect::Eip1571 => json::bare_success(id),
            _ => self.success(id, &true),
        }
    }
}
