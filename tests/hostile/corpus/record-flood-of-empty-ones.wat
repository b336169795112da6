;; trick: as many empty records as the fuel allows
;; end: quarantined out of fuel
(module
  (import "trocar" "emit" (func $emit (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") (loop (call $emit (i32.const 0) (i32.const 0) (i32.const 0)) (br 0))))
