;; trick: memory.fill whose end wraps around 2^32 to a place inside
;; end: quarantined out of fuel
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (memory.fill (i32.const 65535) (i32.const 7) (i32.const -65534))))
