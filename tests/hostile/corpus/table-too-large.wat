;; trick: a table of 10 001 entries
;; end: refused table elements
(module
  (table 10001 funcref)
  (func (export "on_hit") (nop)))
