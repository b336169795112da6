//! What `trocar new` writes: the files of a new project, for each language.
//!
//! A user's machine has no copy of this repository, so a project gets everything that it needs: the Rust one holds the
//! source of the SDK in `sdk/` and builds offline, the others hold the one file that declares the host calls. In texts and nowhere else `{{name}}`
//! stands for the project's name. It does not know how a project is built; `build` does.

/// A file of a project: its path in the project's folder, and its text.
pub type File = (&'static str, &'static str);

/// What stands for the project's name: in Rust it must be a crate's name, letters, digits, `_` and `-`, no digit first.
pub const NAME: &str = "{{name}}";

/// A project in Rust. `sdk/` is the SDK as it is in `probe-sdk/rust`: the lists must be kept alike.
pub const RUST: &[File] = &[
    ("Cargo.toml", include_str!("rust/Cargo.toml.in")),
    (".cargo/config.toml", include_str!("rust/cargo-config.toml")),
    (".gitignore", include_str!("gitignore")),
    ("README.md", include_str!("rust/README.md")),
    ("src/lib.rs", include_str!("rust/lib.rs.in")),
    ("sdk/PROBE-ABI.md", PROBE_ABI),
    ("sdk/Cargo.toml", include_str!("../../../../probe-sdk/rust/Cargo.toml")),
    ("sdk/src/errno.rs", include_str!("../../../../probe-sdk/rust/src/errno.rs")),
    ("sdk/src/field.rs", include_str!("../../../../probe-sdk/rust/src/field.rs")),
    ("sdk/src/lib.rs", include_str!("../../../../probe-sdk/rust/src/lib.rs")),
    ("sdk/src/log.rs", include_str!("../../../../probe-sdk/rust/src/log.rs")),
    ("sdk/src/macros.rs", include_str!("../../../../probe-sdk/rust/src/macros.rs")),
    ("sdk/src/manifest.rs", include_str!("../../../../probe-sdk/rust/src/manifest.rs")),
    ("sdk/src/map.rs", include_str!("../../../../probe-sdk/rust/src/map.rs")),
    ("sdk/src/param.rs", include_str!("../../../../probe-sdk/rust/src/param.rs")),
    ("sdk/src/raw.rs", include_str!("../../../../probe-sdk/rust/src/raw.rs")),
    ("sdk/src/register.rs", include_str!("../../../../probe-sdk/rust/src/register.rs")),
    ("sdk/src/target.rs", include_str!("../../../../probe-sdk/rust/src/target.rs")),
    ("sdk/src/text.rs", include_str!("../../../../probe-sdk/rust/src/text.rs")),
    ("sdk/macros/Cargo.toml", include_str!("../../../../probe-sdk/rust/macros/Cargo.toml")),
    ("sdk/macros/src/lib.rs", include_str!("../../../../probe-sdk/rust/macros/src/lib.rs")),
];

/// A project in C.
pub const C: &[File] = &[
    (".gitignore", include_str!("gitignore")),
    ("README.md", include_str!("c/README.md")),
    ("PROBE-ABI.md", PROBE_ABI),
    ("probe.c", include_str!("c/probe.c")),
    ("trocar.h", include_str!("../../../../probe-sdk/c/trocar.h")),
];

/// A project in C++.
pub const CPP: &[File] = &[
    (".gitignore", include_str!("gitignore")),
    ("README.md", include_str!("cpp/README.md")),
    ("PROBE-ABI.md", PROBE_ABI),
    ("probe.cc", include_str!("cpp/probe.cc")),
    ("trocar.h", include_str!("../../../../probe-sdk/c/trocar.h")),
];

/// A project in Zig.
pub const ZIG: &[File] = &[
    (".gitignore", include_str!("gitignore")),
    ("README.md", include_str!("zig/README.md")),
    ("PROBE-ABI.md", PROBE_ABI),
    ("probe.toml", include_str!("wat/probe.toml")),
    ("probe.zig", include_str!("zig/probe.zig")),
    ("trocar.zig", include_str!("../../../../probe-sdk/zig/trocar.zig")),
];

/// A project in AssemblyScript.
pub const ASSEMBLYSCRIPT: &[File] = &[
    (".gitignore", include_str!("gitignore")),
    ("README.md", include_str!("assemblyscript/README.md")),
    ("PROBE-ABI.md", PROBE_ABI),
    ("probe.toml", include_str!("wat/probe.toml")),
    ("probe.ts", include_str!("assemblyscript/probe.ts")),
    ("trocar.ts", include_str!("../../../../probe-sdk/assemblyscript/trocar.ts")),
];

/// A project in Go. Its module is called `probe` whatever the project is called: names of modules take less.
pub const GO: &[File] = &[
    (".gitignore", include_str!("gitignore")),
    ("README.md", include_str!("go/README.md")),
    ("PROBE-ABI.md", PROBE_ABI),
    ("go.mod", include_str!("go/go.mod.in")),
    ("probe.go", include_str!("go/probe.go")),
    ("probe.toml", include_str!("go/probe.toml")),
    ("trocar/trocar.go", include_str!("../../../../probe-sdk/go/trocar.go")),
];

/// A project in WebAssembly text.
pub const WAT: &[File] = &[
    (".gitignore", include_str!("gitignore")),
    ("README.md", include_str!("wat/README.md")),
    ("PROBE-ABI.md", PROBE_ABI),
    ("probe.toml", include_str!("wat/probe.toml")),
    ("probe.wat", include_str!("wat/probe.wat")),
];

/// The script that finds or makes a compiler for Rust probes; see its head. It runs itself
/// again, so it must be a file: write it to one and run `sh FILE`.
pub const GUEST_RUST: &str = include_str!("../../../../probe-sdk/guest-rust.sh");

const PROBE_ABI: &str = include_str!("../../../../runtime/abi/PROBE-ABI.md");
