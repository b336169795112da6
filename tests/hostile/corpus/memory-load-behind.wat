;; trick: a load right behind the memory
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (i32.load (i32.const 65536)))))
