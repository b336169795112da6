;; trick: memory.copy to behind the memory
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (memory.copy (i32.const 65530) (i32.const 0) (i32.const 8))))
