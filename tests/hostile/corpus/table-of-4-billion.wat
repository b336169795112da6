;; trick: a table of u32::MAX entries
;; end: refused table
(module
  (table 4294967295 funcref)
  (func (export "on_hit") (nop)))
