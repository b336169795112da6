;; trick: a reference from outside
;; end: refused reference types
(module
  (table 1 externref)
  (func (export "on_hit") (nop)))
