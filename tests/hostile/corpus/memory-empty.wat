;; trick: a load in a memory of no pages
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 0)
  (func (export "on_hit") (drop (i32.load8_u (i32.const 0)))))
