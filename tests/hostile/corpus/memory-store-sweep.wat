;; trick: stores at every power of two until one is outside
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (local i32) (local.set 0 (i32.const 1)) (loop (i32.store8 (local.get 0) (i32.const 1)) (local.set 0 (i32.shl (local.get 0) (i32.const 1))) (br_if 0 (local.get 0)))))
