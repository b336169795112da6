;; trick: an active element segment behind the table
;; end: refused out of bounds
(module
  (table 1 funcref)
  (elem (i32.const 1) $g)
  (func $g)
  (func (export "on_hit") (nop)))
