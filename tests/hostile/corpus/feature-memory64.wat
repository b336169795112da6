;; trick: a memory of 64 bits
;; end: refused memory64
(module
  (memory (export "memory") i64 1)
  (func (export "on_hit") (nop)))
