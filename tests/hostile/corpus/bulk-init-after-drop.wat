;; trick: memory.init from a segment that was dropped at the first hit of the thread
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (data $d "abcd")
  (func (export "on_hit") (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4)) (data.drop $d)))
