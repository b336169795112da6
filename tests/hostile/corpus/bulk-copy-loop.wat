;; trick: memory.copy of half the memory in a loop without end
;; end: quarantined out of fuel
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (loop (memory.copy (i32.const 0) (i32.const 32768) (i32.const 32768)) (br 0))))
