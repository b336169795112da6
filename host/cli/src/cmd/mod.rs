//! The verbs, a file each. The doc of a verb's arguments is its manual page.

pub(crate) mod arming;
pub(crate) mod count;
pub(crate) mod load;
pub(crate) mod points;
pub(crate) mod ps;
