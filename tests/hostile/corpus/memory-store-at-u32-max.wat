;; trick: a store at u32::MAX
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (i32.store8 (i32.const -1) (i32.const 1))))
