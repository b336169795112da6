//! How the image is linked: a static position-independent executable with no libc, no dynamic linker, no exception
//! header or tables, and one entry point that only the host knows.

fn main() {
    for arg in [
        "-nostdlib",
        "-nostartfiles",
        "-static-pie",
        "-Wl,-e,agent_entry",
        "-Wl,--gc-sections",
        "-Wl,-z,norelro",
        "-Wl,--no-eh-frame-hdr",
        "-Wl,--build-id=none",
        "-Wl,--no-undefined",
        "-Wl,-z,noexecstack",
        // Segments on pages of their own, so that text is never in a writable mapping.
        "-Wl,-z,separate-code",
    ] {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{folder}/discard.ld");
    println!("cargo:rerun-if-changed=discard.ld");
    println!("cargo:rerun-if-changed=build.rs");
}
