;; trick: one page more for each thread, and a touch of its last byte
;; end: fine
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (if (i32.lt_u (memory.size) (i32.const 2)) (then (drop (memory.grow (i32.const 1))))) (i32.store8 (i32.const 131071) (i32.const 1))))
