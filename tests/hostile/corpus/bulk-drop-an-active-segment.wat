;; trick: an active segment counts as dropped
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (data $d (i32.const 0) "abcd")
  (func (export "on_hit") (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4))))
