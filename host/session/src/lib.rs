//! One attachment's life, from request to receipt.

pub mod reply;
