;; trick: a shared memory
;; end: refused threads
(module
  (memory (export "memory") 1 1 shared)
  (func (export "on_hit") (nop)))
