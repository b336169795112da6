;; trick: table.fill belongs to reference types
;; end: refused reference types
(module
  (table $t 9 funcref)
  (func (export "on_hit") (table.fill $t (i32.const 0) (ref.null func) (i32.const 9))))
