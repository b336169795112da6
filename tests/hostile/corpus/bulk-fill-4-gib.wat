;; trick: memory.fill of u32::MAX bytes: its fuel is asked for before its range
;; end: quarantined out of fuel
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (memory.fill (i32.const 0) (i32.const 7) (i32.const -1))))
