;; trick: a store right behind the memory
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (i32.store (i32.const 65536) (i32.const 1))))
