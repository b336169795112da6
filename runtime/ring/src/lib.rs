//! One producer in the target, one consumer in the host: the ring, and the checked view of shared memory.
