;; trick: memory.init across the end of the memory
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (data $d "abcd")
  (func (export "on_hit") (memory.init $d (i32.const 65534) (i32.const 0) (i32.const 4))))
