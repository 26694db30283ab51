//! What several fuzz targets share.

use otedama_pool::stratum::{Incoming, Message, decode};

/// Reads a line as a message; if it is one, what is written of it must read the same.
pub fn reads_again<M: Message + PartialEq + std::fmt::Debug>(line: &str) {
    let Ok(Incoming::Message(id, message)) = decode::<M>(line) else { return };
    let written = message.encode(id.as_ref());
    match decode::<M>(&written) {
        // Where to reconnect to is written only if it is whole.
        Ok(Incoming::Message(..)) if written.contains(".reconnect\"") => {}
        Ok(Incoming::Message(back_id, back)) => assert_eq!((back_id, back), (id, message), "{written}"),
        other => panic!("{written}: {:?}", other.err()),
    }
}
