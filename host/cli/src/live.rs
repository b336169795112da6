//! Sessions at work, side by side: poll, report once a second, end in order.
//!
//! Whatever ends it (Ctrl-C, `--hits`, `--for`, a quarantine, the end of the target, an output that nobody reads any
//! more), every session that is still in a target is detached before this returns.

use std::thread;
use std::time::{Duration, Instant};

use trocar_session::reply::{Receipt, Reply};
use trocar_session::{Session, Turn};
use trocar_target::Failure;

use crate::interrupt::Interrupt;
use crate::out::Out;
use crate::replay::Again;
use crate::trouble::{Broken, Outcome};

/// Time between two looks at the rings.
const TURN: Duration = Duration::from_millis(10);
/// Time between two reports of counters and maps.
const REPORT: Duration = Duration::from_secs(1);
/// Exit status after a quarantine.
const QUARANTINED: u8 = 8;
/// Exit status after a target whose text is not as before.
const BUG: u8 = 1;

/// What ends the command, besides Ctrl-C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// Hits that were executed, over all sites and targets.
    pub(crate) hits: Option<u64>,
    /// Time since the last target was attached.
    pub(crate) time: Option<Duration>,
    /// Exit status after the end of a target.
    pub(crate) target_ended: u8,
}

/// Hands replies on, and remembers the first that could not be written.
struct Speaker<'a> {
    out: &'a mut Out,
    /// How hits that trapped are seen again.
    again: Option<&'a Again<'a>>,
    broken: Option<Broken>,
    news: bool,
}

impl Speaker<'_> {
    fn say(&mut self, mut reply: Reply) {
        self.news = true;
        if let (Reply::State(change), Some(again)) = (&mut reply, self.again) {
            again.complete(change);
        }
        if self.broken.is_none() {
            self.broken = self.out.reply(&reply).err();
        }
    }

    /// What was said since the last time becomes visible.
    fn flush(&mut self) {
        if std::mem::take(&mut self.news) && self.broken.is_none() {
            self.broken = self.out.flush().err();
        }
    }
}

/// The run so far.
struct Run<'a> {
    speaker: Speaker<'a>,
    status: u8,
    failure: Option<Failure>,
    /// Hits that sessions which are over have executed.
    executed: u64,
}

impl Run<'_> {
    fn worst(&mut self, status: u8) {
        self.status = self.status.max(status);
    }

    fn failed(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// A turn of one session; the session, if it goes on.
    fn turn(&mut self, mut session: Session, ends: &Ends) -> Option<Session> {
        let mut exited = None;
        let turn = session.poll(&mut |reply| match reply {
            // Said last: what the probe wrote before comes before.
            Reply::Exited(_) => exited = Some(reply),
            reply => self.speaker.say(reply),
        });
        match turn {
            Ok(Turn::Live) => return Some(session),
            Ok(Turn::Over) => {
                if session.state() == "quarantined" {
                    self.worst(QUARANTINED);
                }
                self.finish(session);
            }
            Ok(Turn::Ended) => {
                self.worst(ends.target_ended);
                self.executed = self.executed.saturating_add(session.executed());
                session.last_words(&mut |reply| self.speaker.say(reply));
                if let Some(reply) = exited {
                    self.speaker.say(reply);
                }
            }
            Err(failure) => {
                self.failed(failure);
                self.finish(session);
            }
        }
        None
    }

    /// Takes a session out of its target.
    fn finish(&mut self, session: Session) {
        self.executed = self.executed.saturating_add(session.executed());
        match session.detach(&mut |reply| self.speaker.say(reply)) {
            Ok(Receipt { restored: true, .. }) => {}
            Ok(_) => self.worst(BUG),
            Err(failure) => self.failed(failure),
        }
    }
}

/// Says what was attached.
fn attached(session: &Session) -> Reply {
    Reply::Attached(session.attached().clone())
}

/// Runs the sessions until something ends them, and gives the exit status.
pub(crate) fn run(
    mut sessions: Vec<Session>,
    ends: &Ends,
    again: &Again<'_>,
    interrupt: &Interrupt,
    out: &mut Out,
) -> Outcome {
    let speaker = Speaker { out, again: Some(again), broken: None, news: false };
    let mut run = Run { speaker, status: 0, failure: None, executed: 0 };
    for session in &sessions {
        run.speaker.say(attached(session));
    }
    run.speaker.flush();
    let began = Instant::now();
    let mut reported = began;
    while !sessions.is_empty() {
        sessions = sessions.into_iter().filter_map(|session| run.turn(session, ends)).collect();
        let executed = || sessions.iter().fold(run.executed, |sum, s| sum.saturating_add(s.executed()));
        if interrupt.asked()
            || run.speaker.broken.is_some()
            || ends.time.is_some_and(|time| began.elapsed() >= time)
            || ends.hits.is_some_and(|most| executed() >= most)
        {
            break;
        }
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            for session in &mut sessions {
                session.report(false, &mut |reply| run.speaker.say(reply));
            }
        }
        run.speaker.flush();
        interrupt.suspend_if_asked();
        if !sessions.is_empty() {
            thread::sleep(TURN);
        }
    }
    for session in sessions {
        run.finish(session);
    }
    run.speaker.flush();
    match (run.failure, run.speaker.broken) {
        (Some(failure), _) => Err(failure.into()),
        (None, Some(broken)) => Err(broken.into()),
        (None, None) => Ok(run.status),
    }
}

/// Detaches sessions whose command failed before it began.
pub(crate) fn let_go(sessions: Vec<Session>, out: &mut Out) {
    let speaker = Speaker { out, again: None, broken: None, news: false };
    let mut run = Run { speaker, status: 0, failure: None, executed: 0 };
    for session in sessions {
        run.speaker.say(attached(&session));
        run.finish(session);
    }
    run.speaker.flush();
}
