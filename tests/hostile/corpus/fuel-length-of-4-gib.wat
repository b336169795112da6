;; trick: a length of u32::MAX costs more fuel than any limit allows, before its range is looked at
;; end: quarantined out of fuel
;; args: --fuel 10000000
(module
  (import "trocar" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") (call $log (i32.const 0) (i32.const 0) (i32.const -1))))
