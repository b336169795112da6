;; trick: memory.grow over the maximum of the memory itself answers -1
;; end: fine
(module
  (memory (export "memory") 1 2)
  (func (export "on_hit") (if (i32.ne (memory.grow (i32.const 2)) (i32.const -1)) (then unreachable))))
