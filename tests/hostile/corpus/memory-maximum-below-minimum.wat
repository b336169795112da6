;; trick: a memory whose maximum is below its minimum
;; end: refused minimum
(module
  (memory (export "memory") 2 1)
  (func (export "on_hit") (nop)))
