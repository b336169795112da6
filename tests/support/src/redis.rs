//! Debian's `redis-server`, started for one test on a free loopback port and without persistence, the few
//! words of its protocol that tests need, and `redis-benchmark`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use crate::lines::Lines;

/// A redis-server of the test's own. Killed and waited for when dropped.
#[derive(Debug)]
pub struct Redis {
    server: Child,
    /// Its log. Kept open: a server that cannot write its log would be another server.
    _log: Lines<ChildStdout>,
    client: Lines<TcpStream>,
    port: u16,
    _folder: TempDir,
}

/// An answer of redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status such as `OK`, or a text.
    Text(String),
    /// An error.
    Error(String),
    /// A number.
    Number(i64),
    /// No value.
    Nil,
    /// Several.
    Many(Vec<Self>),
}

impl Redis {
    /// Starts a server. `/usr/bin/redis-server` unless `TROCAR_REDIS_SERVER` names another.
    ///
    /// # Panics
    /// If there is none, or it does not come up on any of eight free ports.
    #[must_use]
    pub fn start() -> Self {
        let program = std::env::var("TROCAR_REDIS_SERVER").unwrap_or_else(|_| "/usr/bin/redis-server".into());
        for _ in 0..8 {
            if let Some(redis) = Self::try_start(&program) {
                return redis;
            }
        }
        panic!("{program} came up on none of eight free ports");
    }

    /// `None` if somebody else took the port meanwhile.
    fn try_start(program: &str) -> Option<Self> {
        let free = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = free.local_addr().expect("a bound socket has an address").port();
        drop(free);
        let folder = TempDir::new().expect("the temporary folder is writable");
        let mut server = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"])
            .args(["--save", "", "--appendonly", "no", "--logfile", "", "--loglevel", "notice"])
            .arg("--dir")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{program}: {e} (Debian package redis-server)"));
        let mut log = Lines::new(server.stdout.take().expect("stdout is a pipe"));
        loop {
            match log.next_line() {
                Some(line) if line.contains("Ready to accept connections") => break,
                Some(_) => {}
                None => {
                    drop(server.wait());
                    return None;
                }
            }
        }
        let client = TcpStream::connect(("127.0.0.1", port)).expect("redis accepts connections");
        // Its helper threads are being born when it says that it is ready: until then they block every signal.
        crate::process::masks(server.id());
        Some(Self { server, _log: log, client: Lines::new(client), port, _folder: folder })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Sends a command over the test's own connection and returns the answer.
    ///
    /// # Panics
    /// If the connection is gone.
    pub fn call(&mut self, words: &[&str]) -> Reply {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.client.get_mut().write_all(request.as_bytes()).expect("redis keeps its connections");
        self.reply()
    }

    fn reply(&mut self) -> Reply {
        let line = self.client.next_line().expect("redis keeps its connections");
        let (kind, rest) = line.split_at_checked(1).expect("an answer of redis has a kind");
        let number = || rest.parse::<i64>().unwrap_or_else(|e| panic!("redis said {line:?}: {e}"));
        match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(number()),
            "$" => match usize::try_from(number()) {
                Ok(n) => {
                    let mut bytes = self.client.bytes(n + 2);
                    bytes.truncate(n);
                    Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
                }
                Err(_) => Reply::Nil,
            },
            "*" => (0..number()).map(|_| self.reply()).collect::<Vec<_>>().into(),
            _ => panic!("redis said {line:?}"),
        }
    }

    /// `INFO commandstats`: calls of each command, `config|get` and the like included. An `INFO` is counted
    /// after its own answer was made.
    ///
    /// # Panics
    /// If redis answers anything else.
    pub fn commandstats(&mut self) -> BTreeMap<String, u64> {
        let Reply::Text(info) = self.call(&["INFO", "commandstats"]) else { panic!("INFO is a text") };
        let parse = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        info.lines().filter_map(parse).collect()
    }

    /// `redis-benchmark -c 50 -n N -t TESTS` against this server, started; wait for it with [`Load::finish`].
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn benchmark(&self, tests: &str, requests: u64) -> Load {
        let mut command = Command::new("redis-benchmark");
        command
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-c", "50", "-n", &requests.to_string()])
            .args(["-t", tests, "--csv"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child =
            command.spawn().unwrap_or_else(|e| panic!("redis-benchmark: {e} (Debian package redis-tools)"));
        Load { child: Some(child) }
    }
}

impl From<Vec<Reply>> for Reply {
    fn from(many: Vec<Reply>) -> Self {
        Self::Many(many)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for already.
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// A running redis-benchmark.
#[derive(Debug)]
pub struct Load {
    child: Option<Child>,
}

impl Load {
    /// Requests per second of each test, by its name in capitals.
    ///
    /// # Panics
    /// If it failed: an error reply or a dropped connection ends redis-benchmark with a message.
    #[must_use]
    pub fn finish(mut self) -> BTreeMap<String, f64> {
        let out =
            self.child.take().expect("finish is called once").wait_with_output().expect("it is our child");
        let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "redis-benchmark: {}\n{text}{errors}", out.status);
        assert!(!text.contains("Error") && !errors.contains("Error"), "redis-benchmark:\n{text}{errors}");
        let rows = text.lines().skip(1).filter_map(|row| {
            let mut cells = row.split(',').map(|c| c.trim_matches('"'));
            Some((cells.next()?.to_owned(), cells.next()?.parse().ok()?))
        });
        rows.collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
