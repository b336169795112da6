;; trick: a wait without end on an atomic
;; end: refused threads
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))))
