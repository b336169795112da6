//! Names and addresses: ELF symbols, function ranges, Go tables, demangling, points.
//!
//! ```text
//! bytes of a file ─▶ Elf ─┬─▶ code_image()      what the patch planner needs, as plain data
//!                         ├─▶ bias(mappings)    where it is loaded
//!                         └─▶ Resolver ◀─ Point::parse(what the user wrote)
//!                                └─▶ Resolved   module, symbol, address
//! ```
//! Pure over bytes: no file is opened here and no process looked at. All bytes come from files that may be
//! damaged or hostile: every offset is checked, every loop bounded by the bytes it reads, nothing panics. Only the
//! headers and the symbol tables are read at once; unwind tables, Go's tables and demangled names when asked for.

#![forbid(unsafe_code)]

mod bytes;
mod code;
mod demangle;
mod dynamic;
mod elf;
mod faults;
mod frames;
mod glob;
mod go;
mod goroutines;
mod imports;
mod lsda;
mod markers;
mod matching;
mod nearest;
mod never;
mod operands;
mod point;
mod relocations;
mod resolve;
mod resolve_error;
mod resolve_import;
mod resolve_marker;
mod sections;
mod symbols;

pub use code::CodeImage;
pub use demangle::demangle;
pub use elf::{Elf, ElfError, MappedRange, Segment};
pub use glob::Glob;
pub use goroutines::GoRuntime;
pub use imports::{Import, Way};
pub use markers::Marker;
pub use point::{Place, Point, PointError, Spot};
pub use resolve::{LoadedModule, Origin, Resolved, Resolver};
pub use resolve_error::ResolveError;
pub use symbols::{Symbol, SymbolKind};
