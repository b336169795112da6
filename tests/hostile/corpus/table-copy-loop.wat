;; trick: table.copy of 9000 entries in a loop without end
;; end: quarantined out of fuel
(module
  (table 9001 funcref)
  (func (export "on_hit") (loop (table.copy (i32.const 0) (i32.const 1) (i32.const 9000)) (br 0))))
