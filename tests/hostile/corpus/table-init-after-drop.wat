;; trick: table.init from a segment that was dropped
;; end: quarantined table access
(module
  (table 2 funcref)
  (elem $e func $g $g)
  (func $g)
  (func (export "on_hit") (elem.drop $e) (table.init $e (i32.const 0) (i32.const 0) (i32.const 1))))
