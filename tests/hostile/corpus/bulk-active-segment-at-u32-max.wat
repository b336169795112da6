;; trick: an active segment at u32::MAX
;; end: refused out of bounds
(module
  (memory (export "memory") 1)
  (data (i32.const -1) "a")
  (func (export "on_hit") (nop)))
