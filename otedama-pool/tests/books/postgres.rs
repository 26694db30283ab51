//! A PostgreSQL server of its own, in a directory of its own, on a unix socket.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A server; dropping it ends it.
pub(crate) struct Server {
    /// None until it is run.
    running: Option<Child>,
    dir: TempDir,
    run: Command,
    ready: Command,
    stop: Command,
}

impl Server {
    /// Starts a server, or says why there is none. PostgreSQL does not run as root: then it runs as `postgres`,
    /// or whoever owns the installation.
    pub(crate) fn start() -> Result<Server, String> {
        let mut server = Server::make()?;
        server.run()?;
        Ok(server)
    }

    /// Makes all that a server needs, or says why not; it does not run yet.
    pub(crate) fn make() -> Result<Server, String> {
        let bin = installation().ok_or("no PostgreSQL server is installed below /usr/lib/postgresql")?;
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let is_root = output(Command::new("id").arg("-u"))?.trim() == "0";
        let as_server = |program: &Path| {
            let mut command = if is_root { Command::new("runuser") } else { Command::new(program) };
            if is_root {
                command.args(["-u", "postgres", "--"]).arg(program);
            }
            command.current_dir(dir.path());
            command
        };
        if is_root {
            output(Command::new("chown").arg("postgres").arg(dir.path()))?;
        }
        let data = dir.path().join("data");
        output(
            as_server(&bin.join("initdb"))
                .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "-D"])
                .arg(&data),
        )?;
        let mut run = as_server(&bin.join("postgres"));
        run.arg("-D").arg(&data).arg("-k").arg(dir.path()).args(["-c", "listen_addresses="]);
        run.stdout(Stdio::null()).stderr(Stdio::null());
        let mut ready = Command::new(bin.join("pg_isready"));
        ready.arg("-h").arg(dir.path());
        let mut stop = as_server(&bin.join("pg_ctl"));
        stop.args(["stop", "-m", "immediate", "-D"]).arg(&data);
        Ok(Server { running: None, dir, run, ready, stop })
    }

    /// Runs it and waits until it answers.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.running = Some(self.run.spawn().map_err(|error| error.to_string())?);
        let start = Instant::now();
        while output(&mut self.ready).is_err() {
            if start.elapsed() > Duration::from_secs(60) {
                return Err("PostgreSQL did not start within 60 s".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends it as a crash would.
    pub(crate) fn halt(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = output(&mut self.stop);
            let _ = running.wait();
        }
    }

    /// The address of a database that every server has.
    pub(crate) fn usual(&self) -> String {
        self.url("postgres")
    }

    /// The address of a new, empty database.
    pub(crate) fn database(&self, name: &str) -> String {
        output(Command::new("createdb").args(["-U", "postgres", "-h"]).arg(self.dir.path()).arg(name))
            .unwrap();
        self.url(name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.dir.path().display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.halt();
    }
}

fn installation() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

fn output(command: &mut Command) -> Result<String, String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr)))
    }
}
