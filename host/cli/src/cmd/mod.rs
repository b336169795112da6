//! The verbs, a file each. The doc of a verb's arguments is its manual page.

pub(crate) mod arming;
pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod count;
pub(crate) mod demo;
pub(crate) mod doctor;
mod hostile;
pub(crate) mod load;
pub(crate) mod new;
pub(crate) mod off;
pub(crate) mod pack;
pub(crate) mod points;
pub(crate) mod probes;
pub(crate) mod ps;
pub(crate) mod test;
pub(crate) mod time;
