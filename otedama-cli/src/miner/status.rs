//! What a miner shows, to whomever: one snapshot for lines, `--json`, the terminal's view and the API.

use std::collections::BTreeMap;
use std::fmt;

use otedama_core::HashRate;
use serde::Serialize;
use serde_json::{Value, json};

use crate::crew::Member;
use crate::miner::sensors::Reading;

/// Everything a miner shows. Times are in seconds, rates in hashes per second, power in watts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) version: &'static str,
    pub(crate) algorithm: &'static str,
    pub(crate) state: State,
    /// The memory being built, for work that waits or beside work: the CPU's, and the dataset of each GPU.
    pub(crate) building: Vec<Building>,
    pub(crate) uptime_s: f64,
    pub(crate) pool: PoolStatus,
    pub(crate) hashes: u64,
    pub(crate) rates: Rates,
    pub(crate) shares: Shares,
    pub(crate) power: Power,
    pub(crate) workers: Vec<WorkerStatus>,
    /// The rate of each of the last seconds, oldest first.
    #[serde(skip)]
    pub(crate) history_hps: Vec<f64>,
    /// What happened last, oldest first.
    #[serde(skip)]
    pub(crate) events: Vec<Told>,
}

impl Status {
    /// What the miner does and how fast.
    pub(crate) fn summary(&self) -> Value {
        json!({
            "version": self.version, "algorithm": self.algorithm, "state": self.state, "building": self.building,
            "uptime_s": self.uptime_s, "pool": self.pool, "rates": self.rates, "shares": self.shares, "power": self.power,
            "workers": self.workers.len(),
        })
    }

    /// What came of it, and how it went.
    pub(crate) fn stats(&self) -> Value {
        json!({
            "uptime_s": self.uptime_s, "hashes": self.hashes, "rates": self.rates, "shares": self.shares,
            "power": self.power, "history_hps": self.history_hps, "events": self.events,
        })
    }

    /// The summary and the workers among other events.
    pub(crate) fn event(&self) -> String {
        let mut event = json!({ "event": "status" });
        if let (Value::Object(event), Ok(Value::Object(status))) = (&mut event, serde_json::to_value(self)) {
            event.extend(status);
        }
        event.to_string()
    }

    /// All of it in one line.
    pub(crate) fn line(&self) -> String {
        let [short, middle, long] =
            [self.rates.hps_10s, self.rates.hps_60s, self.rates.hps_15min].map(rate_text);
        let (shares, state) = (&self.shares, self.state.name());
        let mut line = match self.state {
            State::Mining => String::new(),
            _ => format!("{state}: "),
        };
        line += &format!(
            "{short} (60 s {middle}, 15 min {long}), {} accepted, {} rejected, {} stale",
            shares.accepted,
            shares.rejected(),
            shares.stale
        );
        if let Some(efficiency) = self.power.hps_per_watt {
            line += &format!(", {}/W", rate_text(Some(efficiency)));
        }
        for building in &self.building {
            line += &format!(", {building}");
        }
        line
    }
}

/// A rate as people write it, or a dash.
pub(crate) fn rate_text(hps: Option<f64>) -> String {
    hps.map_or_else(|| "-".to_owned(), |hps| HashRate::from_hps(hps).to_string())
}

/// What the miner is doing as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// No pool answers.
    #[default]
    Connecting,
    /// Connected, and there is no work yet.
    Waiting,
    /// The memory that the work needs is being built.
    Building,
    /// Hashing.
    Mining,
    /// Told to pause.
    Paused,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Waiting => "waiting",
            State::Building => "building",
            State::Mining => "mining",
            State::Paused => "paused",
        }
    }
}

/// Memory being built.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Building {
    /// `cache` or `dataset`.
    pub(crate) part: &'static str,
    /// The GPU that it is made on and for; nothing for the CPU's.
    pub(crate) device: Option<String>,
    /// How far it is, from 0 to 1.
    pub(crate) done: f64,
}

impl Building {
    /// What this GPU makes, if its dataset has fewer bytes than it will.
    pub(crate) fn on_device(device: &str, done: u64, total: u64) -> Option<Building> {
        let done = (done < total).then(|| done as f64 / total as f64)?;
        Some(Building { part: "dataset", device: Some(device.to_owned()), done })
    }
}

impl fmt::Display for Building {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(device) = &self.device {
            write!(f, "{device} ")?;
        }
        write!(f, "{} {:.0} %", self.part, 100.0 * self.done)
    }
}

/// The pool mined at.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct PoolStatus {
    /// The pool of the connection, or of the last one.
    pub(crate) url: Option<String>,
    pub(crate) connected: bool,
    /// How long the connection has stood.
    pub(crate) connected_s: Option<f64>,
    pub(crate) difficulty: Option<f64>,
    /// How old the newest job is.
    pub(crate) last_job_s: Option<f64>,
    /// How long the pool took for its last answer.
    pub(crate) answer_s: Option<f64>,
    /// How often another pool was gone to than the one before.
    pub(crate) failovers: u64,
    /// Connections that ended, or never came about.
    pub(crate) lost: u64,
}

/// Hash rates over three spans; nothing until there is something to count from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Rates {
    pub(crate) hps_10s: Option<f64>,
    pub(crate) hps_60s: Option<f64>,
    pub(crate) hps_15min: Option<f64>,
}

/// What became of shares.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Shares {
    pub(crate) accepted: u64,
    /// Refused by the pool, by reason.
    pub(crate) rejected: BTreeMap<&'static str, u64>,
    /// Found for work that had become worthless; not sent.
    pub(crate) stale: u64,
    /// Claimed by a worker and not confirmed: broken hardware.
    pub(crate) wrong: u64,
    /// Shares that solved a block; nothing where jobs do not tell what a block takes.
    pub(crate) blocks: Option<u64>,
    /// How long ago the last share was accepted.
    pub(crate) last_accepted_s: Option<f64>,
}

impl Shares {
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    pub(crate) fn answered(&self) -> u64 {
        self.accepted + self.rejected()
    }
}

/// What all of it takes, where devices tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Power {
    /// The processor packages, with everything that runs on them.
    pub(crate) cpu_watts: Option<f64>,
    pub(crate) gpu_watts: Option<f64>,
    /// Hashes per second and watt over the last ten seconds, if the power of every kind at work is known.
    pub(crate) hps_per_watt: Option<f64>,
}

/// A thread of the CPU or a GPU.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WorkerStatus {
    pub(crate) worker: usize,
    #[serde(flatten)]
    pub(crate) member: Member,
    pub(crate) state: WorkerState,
    /// Why it does not work, if it does not.
    pub(crate) reason: Option<String>,
    pub(crate) hashes: u64,
    pub(crate) rates: Rates,
    /// Shares it found.
    pub(crate) shares: u64,
    #[serde(flatten)]
    pub(crate) reading: Reading,
    pub(crate) hps_per_watt: Option<f64>,
}

/// How a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WorkerState {
    #[default]
    Working,
    /// Its device rests until it is fit for work, such as cool enough.
    Resting,
    /// Its device failed; it is tried again.
    Failed,
    /// It does not come back from its device.
    Hanging,
    /// Gone for good.
    Lost,
}

impl WorkerState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            WorkerState::Working => "working",
            WorkerState::Resting => "resting",
            WorkerState::Failed => "failed",
            WorkerState::Hanging => "hanging",
            WorkerState::Lost => "lost",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Told {
    /// Seconds since the miner began.
    pub(crate) at_s: f64,
    pub(crate) text: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::miner::tally::Tally;
    use otedama_core::Algorithm;

    #[test]
    fn a_line_says_what_is_unusual_first() {
        let mut status = Tally::new(Algorithm::Sha256d, Vec::new()).status(State::Mining);
        let none = "- (60 s -, 15 min -), 0 accepted, 0 rejected, 0 stale";
        assert_eq!(status.line(), format!("connecting: {none}"));
        status.state = State::Mining;
        status.rates = Rates { hps_10s: Some(41.4e6), hps_60s: Some(41.2e6), hps_15min: Some(4e7) };
        status.power.hps_per_watt = Some(1.5e6);
        let line =
            "41.40 MH/s (60 s 41.20 MH/s, 15 min 40.00 MH/s), 0 accepted, 0 rejected, 0 stale, 1.500 MH/s/W";
        assert_eq!(status.line(), line);
    }

    #[test]
    fn what_is_being_built_is_in_the_line_and_in_the_objects() {
        assert_eq!(Building::on_device("cuda:0", 0, 0), None);
        assert_eq!(Building::on_device("cuda:0", 1 << 30, 1 << 30), None);
        let mut status = Tally::new(Algorithm::Ethash, Vec::new()).status(State::Mining);
        status.building = vec![Building { part: "cache", device: None, done: 0.5 }];
        status.building.extend(Building::on_device("cuda:0", 1 << 28, 1 << 30));
        assert!(status.line().ends_with(", 0 stale, cache 50 %, cuda:0 dataset 25 %"), "{}", status.line());
        let expected = json!([
            { "part": "cache", "device": null, "done": 0.5 },
            { "part": "dataset", "device": "cuda:0", "done": 0.25 },
        ]);
        assert_eq!(status.summary()["building"], expected);
        let event: Value = serde_json::from_str(&status.event()).unwrap();
        assert_eq!(event["building"], expected);
    }
}
