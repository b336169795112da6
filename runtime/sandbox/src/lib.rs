//! One engine configuration for both sides; instance, entry, host calls, traps.
