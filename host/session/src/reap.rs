//! Removing what hosts that were killed have left in a process.

use trocar_target::{Failure, FailureKind};

use crate::reply::Reaped;

/// Removes it, before anything is planned. `None`: there is nothing.
///
/// # Errors
/// A bug of ours. Whatever else keeps us from looking keeps us from attaching too, and is told then, with more words.
pub fn reap(pid: i32) -> Result<Option<Reaped>, Failure> {
    match trocar_inject::reap(pid) {
        Ok(found) => Ok(found.map(|r| Reaped {
            pid,
            sessions: r.sessions,
            sites: r.sites,
            restored: r.restored,
            mappings_left: r.mappings_left,
            residue: r.residue,
        })),
        Err(failure) if failure.kind == FailureKind::Bug => Err(failure),
        Err(_) => Ok(None),
    }
}
