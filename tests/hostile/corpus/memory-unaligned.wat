;; trick: loads and stores that are as unaligned as can be
;; end: fine
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (i64.store offset=1 (i32.const 2) (i64.load offset=3 (i32.const 4)))))
