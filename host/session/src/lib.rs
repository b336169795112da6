//! One attachment's life, from request to receipt.
//!
//! The steps cannot be taken in the wrong order, because each asks for the previous one's type: [`Request`] →
//! [`Prepared`] (verified, resolved, planned; nothing in the target is touched) → [`Session`] (live) → its receipt.
//! What a session has to say, it says as [`reply::Reply`]; it does not know who listens.

mod arrivals;
mod budget;
mod come;
mod evidence;
mod kept;
mod live;
mod modules;
mod name;
mod off;
mod part;
mod prepare;
mod probe;
mod reap;
pub mod reply;
mod request;
mod sites;

pub use live::{Session, Turn};
pub use modules::{Loaded, planner_image};
pub use off::off;
pub use prepare::{Prepared, not_compiled};
pub use reap::reap;
pub use request::{Request, RequestedPoint};
pub use sites::{Handler, Missing, PlannedPlace, PlannedSites, plan_points};
