//! Names and addresses: ELF symbols, function ranges, Go tables, demangling, points.
