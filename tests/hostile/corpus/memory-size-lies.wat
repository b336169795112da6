;; trick: memory.size does not change by itself
;; end: fine
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (if (i32.ne (memory.size) (i32.const 1)) (then unreachable))))
