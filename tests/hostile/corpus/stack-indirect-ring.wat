;; trick: recursion through eight table entries in turn
;; end: quarantined stack overflow
(module
  (type $t (func (param i32)))
  (table 8 funcref)
  (elem (i32.const 0) $f $f $f $f $f $f $f $f)
  (func $f (param i32) (call_indirect (type $t) (i32.add (local.get 0) (i32.const 1)) (i32.and (local.get 0) (i32.const 7))))
  (func (export "on_hit") (call $f (i32.const 0))))
