//! Probe packages: the manifest, in probe.toml and in the module.
