;; trick: two tables, the second for calls
;; end: refused reference types
(module
  (type $t (func))
  (table 1 funcref)
  (table $b 1 funcref)
  (func (export "on_hit") (call_indirect $b (type $t) (i32.const 0))))
