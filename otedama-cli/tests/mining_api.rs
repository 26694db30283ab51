//! The miner's API as programs use it: a miner of its own at a pool of its own, asked over TCP.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use common::pool::Pool;
use common::{any_gpu, command, interrupt, number, refused, run, scratch, text};
use serde_json::Value;
use tungstenite::Message;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A miner with an API; stopped when it is dropped.
struct Miner {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    address: String,
    _pool: Pool,
}

impl Miner {
    /// A miner whose API listens at any port, and what it said before.
    fn start(options: &[&str]) -> (Miner, Vec<Value>) {
        Miner::until("api", |event| text(event, "url")["http://".len()..].to_owned(), options)
    }

    /// A miner that has said this, and what is to be remembered of it.
    fn until(said: &str, take: fn(&Value) -> String, options: &[&str]) -> (Miner, Vec<Value>) {
        let pool = Pool::serve("sha256d", &["--difficulty", "0.001"]);
        let url = format!("stratum+tcp://{}", pool.address);
        let mut child = command(&["mine", "--algorithm", "sha256d", "--url", &url, "--user", "me.rig1"])
            .args(["--threads", "1", "--json"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut events = Vec::new();
        let address = loop {
            let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            events.push(event.clone());
            if event["event"] == said {
                break take(&event);
            }
        };
        (Miner { child, lines, address, _pool: pool }, events)
    }

    fn ask(&self, method: &str, path: &str, headers: &[&str]) -> (u16, Value) {
        let (status, _, body) = self.exchange(method, path, headers, "");
        (status, body)
    }

    /// One request; the answer's status, head and body.
    fn exchange(&self, method: &str, path: &str, headers: &[&str], body: &str) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut lines = vec![format!("{method} {path} HTTP/1.1"), "Connection: close".to_owned()];
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            lines.push(format!("Host: {}", self.address));
        }
        lines.extend(headers.iter().map(|header| (*header).to_owned()));
        if !body.is_empty() {
            lines.push(format!("Content-Length: {}", body.len()));
        }
        // One that is refused by its head may not be read to its end.
        let _ = stream.write_all(format!("{}\r\n\r\n{body}", lines.join("\r\n")).as_bytes());
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// The answer to a question, once it is as wished.
    fn wait_for(&self, path: &str, so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let (status, body) = self.ask("GET", path, &[]);
            assert_eq!(status, 200, "{body}");
            if so(&body) {
                return body;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} stays {body}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Interrupts it; it must leave well, and its last words are returned.
    fn end(mut self) -> Value {
        interrupt(&self.child);
        let last = self.lines.by_ref().map(Result::unwrap).last().unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&last).unwrap()
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether an answer is an error in words.
fn is_error((status, body): (u16, Value), expected: u16, word: &str) {
    assert_eq!(status, expected, "{body}");
    assert!(text(&body, "error").contains(word), "{body}");
}

#[test]
fn a_miner_tells_how_it_does_and_is_paused_and_resumed() {
    let (miner, _) = Miner::start(&["--api", "127.0.0.1:0"]);
    let accepted =
        |body: &Value| number(&body["shares"], "accepted") >= 2 && body["rates"]["hps_10s"].is_number();
    let status = miner.wait_for("/api/status", accepted);
    assert_eq!((text(&status, "state"), text(&status, "algorithm")), ("mining", "sha256d"));
    assert!(text(&status["pool"], "url").starts_with("stratum+tcp://127.0.0.1:"));
    assert_eq!((status["pool"]["connected"].as_bool(), number(&status, "workers")), (Some(true), 1));
    // What it began with, or more: shares come fast.
    assert!(status["pool"]["difficulty"].as_f64().unwrap() >= 0.001, "{status}");
    assert!(status["pool"]["answer_s"].is_number() && status["pool"]["last_job_s"].is_number(), "{status}");
    assert_eq!(status["shares"]["rejected"], serde_json::json!({}));

    let workers = miner.ask("GET", "/api/workers", &[]).1;
    let worker = &workers["workers"][0];
    assert_eq!((text(worker, "kind"), text(worker, "state")), ("cpu", "working"));
    assert!(number(worker, "shares") >= 2 && worker["rates"]["hps_10s"].as_f64() > Some(0.0), "{worker}");

    let stats = miner.ask("GET", "/api/stats", &[]).1;
    assert!(!stats["history_hps"].as_array().unwrap().is_empty());
    let events = stats["events"].as_array().unwrap();
    assert!(events.iter().any(|event| text(event, "text").starts_with("connected to ")), "{events:?}");

    // Twice is as once.
    for _ in 0..2 {
        assert_eq!(
            miner.ask("POST", "/api/mining/stop", &[]),
            (200, serde_json::json!({ "state": "paused" }))
        );
    }
    let hashes = |miner: &Miner| number(&miner.ask("GET", "/api/stats", &[]).1, "hashes");
    // What was under way is counted with the next sample.
    std::thread::sleep(Duration::from_millis(2500));
    let paused = hashes(&miner);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(hashes(&miner), paused, "it works on");
    assert_eq!(text(&miner.ask("GET", "/api/status", &[]).1, "state"), "paused");
    let before = number(&status["shares"], "accepted");
    assert_eq!(miner.ask("POST", "/api/mining/start", &[]), (200, serde_json::json!({ "state": "mining" })));
    miner.wait_for("/api/stats", |body| number(body, "hashes") > paused);
    miner.wait_for("/api/status", |body| number(&body["shares"], "accepted") > before + 1);
    let end = miner.end();
    assert_eq!((text(&end, "event"), &end["rejected"]), ("end", &serde_json::json!({})));
}

#[test]
fn what_cannot_be_asked_is_refused_in_words() {
    let (miner, _) = Miner::start(&["--api", "127.0.0.1:0"]);
    is_error(miner.ask("GET", "/", &[]), 404, "nothing here");
    is_error(miner.ask("GET", "/api/mining/stop", &[]), 405, "another method");
    is_error(miner.ask("POST", "/api/status", &[]), 405, "another method");
    is_error(miner.ask("DELETE", "/api/workers", &[]), 405, "another method");
    is_error(miner.ask("GET", "/api/ws", &[]), 400, "");
    let (status, _, body) = miner.exchange("POST", "/api/mining/stop", &[], &"x".repeat(2000));
    is_error((status, body), 413, "");
    let long = format!("X-Long: {}", "x".repeat(20_000));
    assert_eq!(miner.ask("GET", "/api/status", &[&long]).0, 431);
    // A page of somebody else's, by its origin and by its name.
    let page = "Origin: http://evil.example";
    for (method, path) in [("POST", "/api/mining/stop"), ("GET", "/api/status"), ("GET", "/api/ws")] {
        is_error(miner.ask(method, path, &[page]), 403, "http://evil.example");
        is_error(miner.ask(method, path, &["Host: evil.example"]), 403, "evil.example");
    }
    let own = format!("Origin: http://{}", miner.address);
    let (status, head, _) = miner.exchange("GET", "/api/status", &[&own], "");
    assert_eq!(status, 200);
    assert!(head.contains("cache-control: no-store") && !head.contains("access-control"), "{head}");
    // Nothing of this has stopped it.
    miner.wait_for("/api/status", |body| text(body, "state") == "mining");
}

#[test]
fn a_key_is_needed_to_steer() {
    let (miner, _) = Miner::start(&["--api", "127.0.0.1:0", "--api-key", "a secret"]);
    assert_eq!(miner.ask("GET", "/api/status", &[]).0, 200);
    is_error(miner.ask("POST", "/api/mining/stop", &[]), 401, "missing");
    is_error(miner.ask("POST", "/api/mining/stop", &["Authorization: Bearer a secre"]), 401, "wrong");
    let (status, head, _) =
        miner.exchange("POST", "/api/mining/stop", &["Authorization: Basic a secret"], "");
    assert_eq!(status, 401);
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    assert_eq!(miner.ask("POST", "/api/mining/stop", &["Authorization: Bearer a secret"]).0, 200);
    assert_eq!(text(&miner.ask("GET", "/api/status", &[]).1, "state"), "paused");
}

#[test]
fn a_websocket_is_told_every_second_and_of_what_happens() {
    let (miner, _) = Miner::start(&["--api", "127.0.0.1:0"]);
    let url = format!("ws://{}/api/ws", miner.address);
    let stream = TcpStream::connect(&miner.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut socket, _) = tungstenite::client(url, stream).unwrap();
    let next = |socket: &mut tungstenite::WebSocket<TcpStream>| loop {
        if let Message::Text(text) = socket.read().unwrap() {
            break serde_json::from_str::<Value>(&text).unwrap();
        }
    };
    let first = next(&mut socket);
    assert_eq!((text(&first, "event"), first["workers"].as_array().unwrap().len()), ("status", 1));
    let (begun, mut statuses, mut accepted) = (Instant::now(), 0, 0);
    while statuses < 3 || accepted < 2 {
        match text(&next(&mut socket), "event") {
            "status" => statuses += 1,
            "accepted" => accepted += 1,
            _ => {}
        }
    }
    assert!(begun.elapsed() > Duration::from_secs(2), "statuses come faster than one a second");
    assert_eq!(miner.ask("POST", "/api/mining/stop", &[]).0, 200);
    while text(&next(&mut socket), "event") != "paused" {}
    // An answer to a share may still be under way.
    while next(&mut socket)["state"] != "paused" {}
    // One that is open does not keep the miner from leaving, and a reader sees the end.
    miner.end();
    while socket.read().is_ok() {}
}

#[test]
fn the_configuration_says_where_and_with_what_key() {
    let folder = scratch("api-config");
    fs::create_dir_all(&folder).unwrap();
    let (file, key) = (folder.join("config.yaml"), folder.join("key"));
    fs::write(&key, "from a file\n").unwrap();
    let api = format!(
        "api: {{ address: '127.0.0.1:0', api_key: 'file:{}', rate_limit: 6, auth: {{ enabled: true }} }}",
        key.display()
    );
    fs::write(&file, format!("mining: {{ enable_gpu: false, cpu: {{ priority: low }} }}\n{api}\n")).unwrap();
    let config = file.to_str().unwrap();
    let (miner, _) = Miner::start(&["--config", config]);
    is_error(miner.ask("GET", "/api/status", &[]), 401, "missing");
    for _ in 0..5 {
        assert_eq!(miner.ask("GET", "/api/status", &["Authorization: Bearer from a file"]).0, 200);
    }
    let (status, head, body) =
        miner.exchange("GET", "/api/status", &["Authorization: Bearer from a file"], "");
    is_error((status, body), 429, "at most 6 a minute");
    assert!(head.contains("retry-after: "), "{head}");
    // Its threads are as nice as configured, the others are not.
    let nice = |task: &fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap();
        let after = stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().to_owned();
        (
            fs::read_to_string(task.path().join("comm")).unwrap().trim().to_owned(),
            after.parse::<i32>().unwrap(),
        )
    };
    let tasks = fs::read_dir(format!("/proc/{}/task", miner.child.id())).unwrap();
    let tasks: Vec<_> = tasks.map(|task| nice(&task.unwrap())).collect();
    let of =
        |name: &str| tasks.iter().find(|(comm, _)| comm == name).unwrap_or_else(|| panic!("{tasks:?}")).1;
    assert_eq!(of("otedama-0"), of("network").max(10), "{tasks:?}");
    drop(miner);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_gpu_is_a_worker_beside_the_cpu() {
    let Some(id) = any_gpu() else { return };
    let (miner, _) = Miner::start(&["--api", "127.0.0.1:0", "--device", &format!("cpu,{id}")]);
    let hashing = |worker: &Value| worker["rates"]["hps_10s"].as_f64() > Some(0.0);
    let both = |body: &Value| body["workers"].as_array().unwrap().iter().all(hashing);
    let workers = miner.wait_for("/api/workers", both);
    let (gpu, cpu) = (&workers["workers"][0], &workers["workers"][1]);
    assert_eq!((text(gpu, "kind"), text(gpu, "name")), ("gpu", id.as_str()));
    assert!(!text(gpu, "device").is_empty() && gpu["kernel"].is_null(), "{gpu}");
    assert_eq!((text(cpu, "kind"), cpu["device"].is_null()), ("cpu", true));
    miner.end();
}

#[test]
fn a_configured_address_that_is_taken_does_not_keep_one_from_mining() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = scratch("api-taken");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.yaml");
    fs::write(&file, format!("mining: {{ enable_gpu: false }}\napi: {{ address: '{address}' }}\n")).unwrap();
    let config = file.to_str().unwrap();
    let (miner, events) = Miner::until("accepted", |_| String::new(), &["--config", config]);
    assert!(events.iter().any(|event| event["event"] == "no_api"), "{events:?}");
    miner.end();
    // What is asked for on the command line must be had.
    let address = address.to_string();
    let at = [
        "mine",
        "--algorithm",
        "sha256d",
        "--url",
        "stratum+tcp://127.0.0.1:1",
        "--user",
        "me",
        "--threads",
        "1",
    ];
    let answer = run(&[&at[..], &["--json", "--api", &address]].concat());
    assert_eq!(answer.code, 1);
    assert!(answer.stderr.contains(&address), "{}", answer.stderr);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn an_api_that_others_can_reach_needs_a_key() {
    let at = ["mine", "--algorithm", "sha256d", "--url", "stratum+tcp://127.0.0.1:1", "--user", "me"];
    let mine = |options: &[&str], words: &[&str]| refused(&[&at[..], options].concat(), words);
    mine(&["--api", "0.0.0.0:0"], &["0.0.0.0:0", "can be reached from elsewhere", "--api-key"]);
    mine(&["--api", "localhost"], &["'localhost'", "--api"]);
    mine(&["--api-key", "x"], &["--api"]);
    mine(&["--api", "--api-key", ""], &["key is empty"]);
    mine(&["--api", "--api-key", "env:OTEDAMA_NO_SUCH"], &["OTEDAMA_NO_SUCH is not set"]);
    mine(&["--plain", "--json"], &["--plain", "--json"]);
}
