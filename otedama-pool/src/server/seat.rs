//! A connection's place: counted when it is taken, given back when it is dropped.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use otedama_core::Difficulty;

use super::guard::{Offence, is_blamed};
use super::trade::Trade;
use super::{Happening, ShareLog, Shared};
use crate::stratum::RejectReason;

/// How often it is looked whether the certificate files have changed.
const CERTIFICATES: Duration = Duration::from_secs(60);

/// The place of one connection.
pub(super) struct Seat<T: Trade, L: ShareLog> {
    shared: Arc<Shared<T, L>>,
    /// Who is at the other end, as far as is known.
    pub(super) peer: SocketAddr,
    pub(super) number: u32,
    /// The address it counts for, if it counts for one.
    address: Option<IpAddr>,
    /// The workers that are logged in.
    workers: Vec<String>,
    /// The difficulty it begins with, if not the usual one.
    pub(super) start: Option<Difficulty>,
    /// How many bans there were when it was last looked.
    bans: u64,
}

impl<T: Trade, L: ShareLog> Seat<T, L> {
    /// A place for whoever connects; `None` if all are taken, or this address may not have one.
    pub(super) fn take(
        shared: &Arc<Shared<T, L>>,
        peer: SocketAddr,
        start: Option<Difficulty>,
    ) -> Option<Seat<T, L>> {
        let before = shared.tally.connections.fetch_add(1, Ordering::Relaxed);
        let number = shared.next_connection.fetch_add(1, Ordering::Relaxed);
        // From here on it is given back.
        let bans = shared.bans.load(Ordering::Relaxed);
        let shared = Arc::clone(shared);
        let mut seat = Seat { shared, peer, number, address: None, workers: Vec::new(), start, bans };
        if before >= seat.shared.config.max_connections as u64 {
            seat.turn_away("no place left", true);
            return None;
        }
        (seat.is_proxied() || seat.enter()).then_some(seat)
    }

    /// Whether a load balancer has connected that has still to say for whom.
    pub(super) fn is_proxied(&self) -> bool {
        self.shared.config.proxies.contains(&self.peer.ip())
    }

    /// The load balancer says whose connection it is. `false` if that address may not have a place.
    pub(super) fn passed_on(&mut self, source: SocketAddr) -> bool {
        self.peer = source;
        self.enter()
    }

    fn enter(&mut self) -> bool {
        let (ip, now) = (self.peer.ip(), self.shared.now().elapsed);
        let entered = self.shared.guard().enter(ip, now);
        match entered {
            Ok(counted) => {
                self.address = counted.then_some(ip);
                true
            }
            Err((refusal, tell)) => {
                self.turn_away(refusal.text(), tell);
                false
            }
        }
    }

    fn turn_away(&self, why: &str, tell: bool) {
        self.shared.tally.turned_away.fetch_add(1, Ordering::Relaxed);
        if tell {
            self.shared.happen(Happening::Left(self.peer, Some(why.to_owned())));
        }
    }

    /// Lets a worker log in.
    ///
    /// # Errors
    /// In words, if there are as many as there may be.
    pub(super) fn admit(&mut self, worker: &str) -> Result<(), String> {
        if self.has_admitted(worker) {
            return Ok(());
        }
        let (workers, max) = (&self.shared.tally.workers, self.shared.config.max_workers as u64);
        if workers.fetch_add(1, Ordering::Relaxed) >= max {
            workers.fetch_sub(1, Ordering::Relaxed);
            return Err(format!("{max} workers are logged in, as many as may be: try again later"));
        }
        self.workers.push(worker.to_owned());
        Ok(())
    }

    /// Whether a worker has been let in.
    pub(super) fn has_admitted(&self, worker: &str) -> bool {
        self.workers.iter().any(|admitted| admitted == worker)
    }

    /// A share was accepted, or refused for this reason.
    pub(super) fn share(&self, refused: Option<RejectReason>) {
        let Some(address) = self.address else { return };
        if refused.is_some_and(|reason| !is_blamed(reason)) {
            return;
        }
        let now = self.shared.now().elapsed;
        let offence = self.shared.guard().share(address, refused.is_none(), now);
        if let Some(offence) = offence {
            self.tell_ban(address, offence);
        }
    }

    /// Bans the address.
    pub(super) fn ban(&self, offence: Offence) {
        let Some(address) = self.address else { return };
        let now = self.shared.now().elapsed;
        let news = self.shared.guard().ban(address, now);
        if news {
            self.tell_ban(address, offence);
        }
    }

    fn tell_ban(&self, address: IpAddr, offence: Offence) {
        self.shared.bans.fetch_add(1, Ordering::Relaxed);
        let lasts = self.shared.config.guard.ban;
        self.shared.happen(Happening::Banned { address, offence, lasts });
    }

    /// Whether its address has been banned; cheap unless any has been since the last time.
    pub(super) fn is_banned(&mut self) -> bool {
        let bans = self.shared.bans.load(Ordering::Relaxed);
        let Some(address) = self.address.filter(|_| bans != self.bans) else { return false };
        self.bans = bans;
        self.shared.guard().is_banned(address, self.shared.now().elapsed)
    }
}

impl<T: Trade, L: ShareLog> Drop for Seat<T, L> {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            let now = self.shared.now().elapsed;
            self.shared.guard().leave(address, now);
        }
        self.shared.tally.workers.fetch_sub(self.workers.len() as u64, Ordering::Relaxed);
        self.shared.tally.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Trade, L: ShareLog> Shared<T, L> {
    /// Reads the certificates again when they change; for ever.
    pub(super) async fn watch_certificates(&self) {
        let Some(certificates) = &self.config.tls else { return std::future::pending().await };
        loop {
            tokio::time::sleep(CERTIFICATES).await;
            let certificates = Arc::clone(certificates);
            // Reading waits for a disk.
            let reload = tokio::task::spawn_blocking(move || certificates.reload()).await;
            if let Ok(Err(error)) = reload {
                self.happen(Happening::Trouble(format!("certificates stay as they were: {error}")));
            }
        }
    }
}
