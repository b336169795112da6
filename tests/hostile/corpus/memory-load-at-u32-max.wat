;; trick: a load at u32::MAX
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (i32.load8_u (i32.const -1)))))
