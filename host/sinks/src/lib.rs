//! Where output goes: tables and JSON lines.
