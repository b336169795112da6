;; trick: a load with an offset of u32::MAX
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (i32.load8_u offset=4294967295 (i32.const 0)))))
