//! Ring bytes to events, shards to maps, counters to statistics.
