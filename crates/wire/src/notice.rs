//! What the encoder tells its supervisor beside the protocol: notices on its standard output, and
//! its log on its standard error, both lines of text. Its own file, and free of I/O, because one
//! end writes what the other has to understand, whatever else a library prints in between.
//!
//! ```text
//! standard output:  busy MILLISECONDS          once a second; how long work has not moved on
//!                   loading DIGEST NAME FILE   before a tower of a model is loaded
//!                   loaded DIGEST NAME FILE    when it is, or could not be
//! standard error:   LEVEL message              ERROR, WARN, INFO or DEBUG; other lines are INFO
//! ```

use std::time::{Duration, Instant};

use pgclip_clip::model::FileDigest;

/// The exit code by which an encoder asks for another, which may read what has appeared since.
pub const TOO_NEW: i32 = 3;

/// Characters of one line that are kept.
const MAX_LINE: usize = 1000;
/// Bytes of an unfinished line that are kept.
const MAX_BYTES: usize = 4 * MAX_LINE;
/// Lines of the log that are let through within [`WINDOW`].
const MAX_LINES: u32 = 200;
const WINDOW: Duration = Duration::from_secs(10);

/// Something that the supervisor has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The event loop turns; work has been under way for so long without moving on.
    Busy(Duration),
    /// A model is about to be loaded: what happens now is its doing.
    Loading(Load),
    Loaded(Load),
}

/// The load of one file of a model. Its towers are loaded one by one, and one may be sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    pub model: Named,
    pub file: String,
}

/// A model as people and processes name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub digest: [u8; 32],
    pub name: String,
}

/// Why a model is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It has ended the encoder.
    Crash,
    /// The kernel has ended the encoder, since memory had run out.
    Memory,
}

/// A model that an encoder does not load at first, as its command line says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub model: Named,
    pub why: Why,
    /// How long yet.
    pub left: Duration,
}

impl Refusal {
    /// `SECONDS,WHY,DIGEST=NAME`, a second begun being a whole one.
    pub fn to_text(&self) -> String {
        let seconds = self.left.as_millis().div_ceil(1000);
        let why = match self.why {
            Why::Crash => "crash",
            Why::Memory => "memory",
        };
        format!("{seconds},{why},{}", self.model.to_text('='))
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(3, ',');
        let left = Duration::from_secs(fields.next()?.parse().ok()?);
        let why = match fields.next()? {
            "crash" => Why::Crash,
            "memory" => Why::Memory,
            _ => return None,
        };
        Some(Self { model: Named::parse(fields.next()?, '=')?, why, left })
    }
}

impl Notice {
    pub fn to_line(&self) -> String {
        match self {
            Self::Busy(time) => format!("busy {}\n", time.as_millis()),
            Self::Loading(load) => format!("loading {} {}\n", load.model.to_text(' '), load.file),
            Self::Loaded(load) => format!("loaded {} {}\n", load.model.to_text(' '), load.file),
        }
    }

    /// `None`: something else was printed.
    pub fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "busy" => Some(Self::Busy(Duration::from_millis(rest.parse().ok()?))),
            "loading" => Some(Self::Loading(Load::parse(rest)?)),
            "loaded" => Some(Self::Loaded(Load::parse(rest)?)),
            _ => None,
        }
    }
}

impl Load {
    fn parse(text: &str) -> Option<Self> {
        let (model, file) = text.rsplit_once(' ')?;
        Some(Self { model: Named::parse(model, ' ')?, file: file.to_owned() })
    }
}

impl Named {
    /// The digest in hexadecimal and the name, on one line.
    pub fn to_text(&self, between: char) -> String {
        format!("{}{between}{}", FileDigest(self.digest), self.name)
    }

    pub fn parse(text: &str, between: char) -> Option<Self> {
        let (digest, name) = text.split_once(between)?;
        let FileDigest(digest) = digest.parse().ok()?;
        Some(Self { digest, name: name.to_owned() })
    }
}

/// Cuts a stream into lines of bounded length; the rest of a longer line is dropped.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Takes bytes in, and gives out the lines that they end. Control characters are replaced.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ended) = match part {
                [text @ .., b'\n'] => (text, true),
                text => (text, false),
            };
            let room = MAX_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                lines.extend(self.finish());
            }
        }
        lines
    }

    /// The line that was never ended, where there is one.
    pub fn finish(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let line: String = text.trim_end().chars().take(MAX_LINE).map(plain).collect();
        (!line.is_empty()).then_some(line)
    }
}

/// How grave a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warning,
}

/// The log on its way into the server's: at most [`MAX_LINES`] within [`WINDOW`], so that no flood
/// fills it.
#[derive(Debug)]
pub struct Log {
    lines: Lines,
    since: Instant,
    passed: u32,
    dropped: u64,
}

impl Log {
    pub fn new(now: Instant) -> Self {
        Self { lines: Lines::default(), since: now, passed: 0, dropped: 0 }
    }

    /// Whether lines are being dropped: what is read now need not be read soon.
    pub fn is_flooded(&self) -> bool {
        self.dropped > 0
    }

    /// Takes bytes in, and gives out what belongs in the server's log.
    pub fn push(&mut self, bytes: &[u8], now: Instant) -> Vec<(Level, String)> {
        let lines = self.lines.push(bytes);
        self.admit(lines, now)
    }

    /// At the end of the stream, the line that was never ended.
    pub fn finish(&mut self, now: Instant) -> Vec<(Level, String)> {
        let line = self.lines.finish();
        self.admit(line.into_iter().collect(), now)
    }

    /// Also without lines: when a flood is over, says how many were dropped.
    fn admit(&mut self, lines: Vec<String>, now: Instant) -> Vec<(Level, String)> {
        let mut admitted = Vec::new();
        if now.duration_since(self.since) >= WINDOW {
            if self.dropped > 0 {
                let what = format!("{} more lines were left out", self.dropped);
                admitted.push((Level::Warning, what));
            }
            (self.since, self.passed, self.dropped) = (now, 0, 0);
        }
        for line in lines {
            if self.passed < MAX_LINES {
                self.passed += 1;
                admitted.push(level(&line));
            } else {
                self.dropped += 1;
            }
        }
        admitted
    }
}

fn level(line: &str) -> (Level, String) {
    let line = line.trim_start();
    let known = line.split_once(' ').and_then(|(level, message)| {
        let level = match level {
            "ERROR" | "WARN" => Level::Warning,
            "INFO" => Level::Info,
            "DEBUG" | "TRACE" => Level::Debug,
            _ => return None,
        };
        Some((level, message.trim_start().to_owned()))
    });
    known.unwrap_or_else(|| (Level::Info, line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_as_it_was_written() {
        let model = Named { digest: [0xa7; 32], name: "ViT-B-32".into() };
        assert_eq!(Named::parse(&model.to_text('='), '='), Some(model.clone()));
        for why in [Why::Crash, Why::Memory] {
            let left = Duration::from_secs(601);
            let refusal = Refusal { model: model.clone(), why, left };
            assert_eq!(Refusal::parse(&refusal.to_text()), Some(refusal));
        }
        for other in ["", "1,crash", "1,crash,a=b", "x,crash,", "sha256:00=name"] {
            assert_eq!(Refusal::parse(other), None, "{other}");
        }
        let load = Load { model, file: "text.onnx".into() };
        for notice in [
            Notice::Busy(Duration::from_millis(70_123)),
            Notice::Loading(load.clone()),
            Notice::Loaded(load),
        ] {
            let line = notice.to_line();
            assert_eq!(Notice::parse(line.trim_end()), Some(notice));
        }
        for other in
            ["", "busy", "busy x", "loading 12 a", "loaded zz", "hello world", "loading é é"]
        {
            assert_eq!(Notice::parse(other), None, "{other}");
        }
    }

    #[test]
    fn lines_are_cut_and_bounded() {
        let mut lines = Lines::default();
        assert!(lines.push(b" WARN on").is_empty());
        assert_eq!(lines.push(b"e\n\nINFO t\x1b[wo\nthr"), [" WARN one", "INFO t [wo"]);
        assert_eq!(lines.finish().as_deref(), Some("thr"));
        let long = vec![b'x'; 100_000];
        for _ in 0..100 {
            assert!(lines.push(&long).is_empty());
        }
        assert!(lines.line.len() <= MAX_BYTES);
        assert_eq!(lines.push(b"\nnext\n"), [&"x".repeat(MAX_LINE), "next"]);
        assert_eq!(lines.push(b"\xff\xfe\n"), ["\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn levels_are_told() {
        let now = Instant::now();
        let mut log = Log::new(now);
        let told = log.push(b"ERROR a b\n WARN c\n INFO d\nDEBUG e\nfree text\nWARNING f\n", now);
        let expected = [
            (Level::Warning, "a b"),
            (Level::Warning, "c"),
            (Level::Info, "d"),
            (Level::Debug, "e"),
            (Level::Info, "free text"),
            (Level::Info, "WARNING f"),
        ];
        assert_eq!(told, expected.map(|(level, text)| (level, text.to_owned())));
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let now = Instant::now();
        let mut log = Log::new(now);
        assert_eq!(log.push(&b"INFO x\n".repeat(1000), now).len(), MAX_LINES as usize);
        assert!(log.is_flooded());
        let told = log.push(b"INFO y\n", now + WINDOW);
        assert_eq!(told[0], (Level::Warning, "800 more lines were left out".into()));
        assert_eq!((told.len(), log.is_flooded()), (2, false));
    }
}
