;; trick: table.init of 2000 entries in a loop without end
;; end: quarantined out of fuel
(module
  (table 2000 funcref)
  (elem $e func
;;*2000 $g
 )
  (func $g)
  (func (export "on_hit") (loop (table.init $e (i32.const 0) (i32.const 0) (i32.const 2000)) (br 0))))
