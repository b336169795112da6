;; trick: memory.fill of the whole memory in a loop without end
;; end: quarantined out of fuel
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (loop (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536)) (br 0))))
