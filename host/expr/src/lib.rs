//! The expression language: parse, check, emit wasm.
//!
//! What a user writes after `--if`, `--by` and inside the braces of `log` becomes a small probe of its own,
//! which goes through the same verifier and the same sandbox as any other. This version has raw access only:
//! registers, arguments, typed reads of memory; it does not know variables or debug information. The crate
//! relies on `trocar-abi` for the host calls and on `trocar-package` for the manifest. It does no I/O.
//!
//! # The language
//!
//! ```text
//! 42  0x2a  'c'  "text"             numbers and characters; text only to compare with str() and buf()
//! $arg0 … $arg11  $ret  $reg.rdi    arguments, result, registers (rax … r15, rip)
//! $tid  $cpu                        thread, processor
//! *(u32*)(p + 16)                   typed read: u8 i8 u16 i16 u32 i32 u64 i64
//! str(p)  str(p, n)                 NUL-terminated text at p, at most 64 or n bytes (n up to 256)
//! buf(p, n)                         n bytes at p (up to 256; a negative n counts as zero)
//! u(x)                              x as an unsigned number
//! - ! ~   * / %   + -   << >>   &   ^   |   == != < <= > >=   &&   ||   ( )      strongest first
//! ```
//!
//! Numbers have 64 bits and wrap. They are signed, except `u(x)`, `u64` reads, literals above 2^63, and what
//! is computed from them: `/ % >> < <= > >=` are unsigned when either side is (for `>>` the left one).
//! `str(p, 3) == "get"` compares the first three bytes. A shift uses the low six bits of its right side.
//!
//! Nothing traps. A read of an unreadable address makes the value *unreadable*, a division by zero makes it
//! *undefined*, and with it the whole expression: as a condition it does not hold, as a key it is counted
//! under a name of its own, in a log line it is shown as `<unreadable>` or `<undefined>`. What `&&` and `||`
//! do not need is not computed, so `$arg0 && *(u32*)$arg0` reads nothing when the pointer is null.
#![forbid(unsafe_code)]

mod ast;
mod count;
mod emit;
mod error;
mod helpers;
mod lex;
mod log;
mod module;
mod parse;
mod template;
mod texts;
mod time;

pub use ast::{Expr, Type};
pub use count::compile_count;
pub use error::{ExprError, Span};
pub use log::compile_log;
pub use module::Compiled;
pub use parse::parse;
pub use template::{Template, parse_template};
pub use time::{TIMED_FUNCTIONS, compile_time};
