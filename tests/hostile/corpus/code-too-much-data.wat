;; trick: over a MiB of data segments
;; end: refused bytes of data
(module
  (memory (export "memory") 17)
  (data (i32.const 0) "
;;+105000 0123456789
")
  (func (export "on_hit") (nop)))
