//! Tracee, remote memory, remote system calls, loading the agent, patching, detaching.
