;; trick: two memories
;; end: refused multi-memory
(module
  (memory (export "memory") 1)
  (memory 1)
  (func (export "on_hit") (nop)))
