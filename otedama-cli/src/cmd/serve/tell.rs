//! What happens at a pool, as a line for people or an object for programs.

use otedama_pool::accounts::Kept;
use otedama_pool::ledger::Contact;
use otedama_pool::node::group::Change;
use otedama_pool::server::Happening;
use serde_json::{Value, json};

use crate::show;

/// What happens at a front. Several coins are told apart by their names.
pub(super) fn happening(json: bool, coin: Option<&str>, happening: &Happening) {
    let (text, object) = match happening {
        Happening::Joined(peer) => {
            (format!("{peer} joined"), json!({ "event": "joined", "peer": peer.to_string() }))
        }
        Happening::Left(peer, why) => {
            let because = why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            (
                format!("{peer} left{because}"),
                json!({ "event": "left", "peer": peer.to_string(), "why": why }),
            )
        }
        Happening::Banned { address, offence, lasts } => (
            format!("{address} is banned for {} s: {offence}", lasts.as_secs()),
            json!({
                "event": "banned", "address": address.to_string(), "offence": offence.to_string(),
                "seconds": lasts.as_secs(),
            }),
        ),
        Happening::Share { worker, difficulty } => (
            format!("share of {worker}, difficulty {difficulty}"),
            json!({ "event": "share", "worker": worker, "difficulty": difficulty.get() }),
        ),
        Happening::Refused { worker, reason } => (
            format!("share of {worker} refused: {}", reason.label()),
            json!({ "event": "refused", "worker": worker, "reason": reason.label() }),
        ),
        Happening::Block { worker, height, id, outcome } => (
            format!("block {height} found by {worker}: {outcome}"),
            json!({ "event": "block", "worker": worker, "height": height, "id": id.to_display_hex(), "outcome": outcome.to_string() }),
        ),
        Happening::Work { height, connections } => (
            format!("work for block {height} to {connections} connections"),
            json!({ "event": "work", "height": height, "connections": connections }),
        ),
        Happening::Trouble(words) => (words.clone(), json!({ "event": "trouble", "words": words })),
        _ => return,
    };
    say(json, coin, &text, object);
}

/// What became of a coin's nodes, the first of which is the preferred one.
pub(super) fn change(json: bool, coin: &str, nodes: &[String], change: &Change) {
    let label = |node: usize| nodes.get(node).map_or("a node", String::as_str);
    let (text, object) = match change {
        Change::Health { node, health } => (
            format!("{} is {health}", label(*node)),
            json!({ "event": "node", "node": label(*node), "health": health.to_string() }),
        ),
        Change::Active(Some(node)) => (
            format!("templates come from {}", label(*node)),
            json!({ "event": "active", "node": label(*node) }),
        ),
        Change::Active(None) => {
            ("no node gives templates: miners wait".to_owned(), json!({ "event": "active", "node": null }))
        }
        // The work that follows is told.
        Change::Tip(_) => return,
    };
    say(json, Some(coin), &text, object);
}

/// How the ledger's database is doing.
pub(super) fn contact(json: bool, contact: &Contact<'_>) {
    let (text, object) = match contact {
        Contact::Lost(error) => (
            format!("the ledger is away, its shares wait in the spool and mining goes on: {error}"),
            json!({ "event": "ledger", "reached": false, "why": error.to_string() }),
        ),
        Contact::Found => (
            "the ledger is there again and takes what waits in the spool".to_owned(),
            json!({ "event": "ledger", "reached": true }),
        ),
    };
    say(json, None, &text, object);
}

/// What the accounts' errands found.
pub(super) fn kept(json: bool, coin: &str, kept: &Kept) {
    let (text, object) = match kept {
        Kept::Blocks(changed) => (
            format!("{changed} blocks booked or found to be orphans"),
            json!({ "event": "settled", "blocks": changed }),
        ),
        Kept::Payouts(report) => {
            let mut text = format!(
                "payouts: {} sent, {} sent again, {} confirmed, {} cancelled",
                report.sent, report.resent, report.confirmed, report.cancelled
            );
            if !report.frozen.is_empty() {
                text += &format!("; FROZEN: batches {:?}, see otedama-cli ledger", report.frozen);
            }
            if !report.not_addresses.is_empty() {
                text += &format!("; no addresses: {}", report.not_addresses.join(", "));
            }
            let unsigned: Vec<_> =
                report.unsigned.iter().map(|(batch, why)| format!("{batch} ({why})")).collect();
            if !unsigned.is_empty() {
                text += &format!("; NOT SIGNED, nobody in them is paid: batches {}", unsigned.join(", "));
            }
            let object = json!({
                "event": "payouts", "sent": report.sent, "resent": report.resent, "confirmed": report.confirmed,
                "cancelled": report.cancelled, "frozen": report.frozen, "not_addresses": report.not_addresses,
                "waiting": report.is_waiting, "unsigned": unsigned,
            });
            (text, object)
        }
        Kept::Trouble(words) => (words.clone(), json!({ "event": "trouble", "words": words })),
        _ => return,
    };
    say(json, Some(coin), &text, object);
}

fn say(json: bool, coin: Option<&str>, text: &str, mut object: Value) {
    let said = match coin {
        Some(coin) => {
            object["coin"] = coin.into();
            show::say(json, &format!("{coin}: {text}"), object)
        }
        None => show::say(json, text, object),
    };
    // A reader who left is no reason to stop serving.
    let _ = said;
}
