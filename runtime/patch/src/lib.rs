//! Bytes in, bytes out: decode, relocate, plan a site, encode its trampoline, match it back.
