;; trick: a call of another type than the entry has
;; end: quarantined wrong type
(module
  (type $t (func))
  (table 1 funcref)
  (elem (i32.const 0) $g)
  (func $g (param i64))
  (func (export "on_hit") (call_indirect (type $t) (i32.const 0))))
