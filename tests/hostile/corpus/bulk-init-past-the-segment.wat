;; trick: memory.init of more than its segment has
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (data $d "abcd")
  (func (export "on_hit") (memory.init $d (i32.const 0) (i32.const 2) (i32.const 3))))
