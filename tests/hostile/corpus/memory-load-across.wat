;; trick: a load across the end
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (i64.load (i32.const 65529)))))
