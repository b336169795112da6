//! Builds the agent, which is a cargo workspace of its own, in a clean environment, and hands its path to `image`.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let runtime = here.join("../../runtime").canonicalize()?;
    // Relative to this package: with one build folder for two checkouts, an absolute path would be the other one's.
    for part in [
        "agent/src",
        "agent/build.rs",
        "agent/.cargo/config.toml",
        "agent/discard.ld",
        "agent/Cargo.toml",
        "agent/Cargo.lock",
        "agent/memfd-stub",
    ] {
        println!("cargo:rerun-if-changed=../../runtime/{part}");
    }
    for part in
        ["abi/src", "ring/src", "sandbox/src", "abi/Cargo.toml", "ring/Cargo.toml", "sandbox/Cargo.toml"]
    {
        println!("cargo:rerun-if-changed=../../runtime/{part}");
    }
    println!("cargo:rerun-if-changed=build.rs");

    // target/PROFILE/build/CRATE-HASH/out: the agent is built once beside them, whatever the profile of the host.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let target = out.ancestors().nth(4).ok_or("OUT_DIR is not where cargo puts it")?.join("agent");
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo.args(["build", "--release", "--locked", "--target-dir"]).arg(&target);
    cargo.current_dir(runtime.join("agent"));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let keep = ["CARGO_HOME", "CARGO_NET_OFFLINE"].contains(&&*name) || name.starts_with("CARGO_REGISTR");
        let of_this_build =
            name.starts_with("CARGO") || name.starts_with("RUSTFLAGS") || name.starts_with("RUSTC");
        if of_this_build && !keep {
            cargo.env_remove(&*name);
        }
    }
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("the agent did not build: {status}").into());
    }
    export(&target.join("release/agent"))
}

fn export(image: &Path) -> Result<(), Box<dyn Error>> {
    let image = image.canonicalize()?;
    println!("cargo:rustc-env=TROCAR_AGENT_IMAGE={}", image.display());
    Ok(())
}
