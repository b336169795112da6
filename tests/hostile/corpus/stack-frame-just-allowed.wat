;; trick: frames of some KiB, one in another, to the limit
;; end: quarantined stack overflow
(module
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (func $f (param i32) (result i64)
;;*800 (call $arg (i32.const #))
 (call $f (local.get 0))
;;*800 i64.add
 )
  (func (export "on_hit") (drop (call $f (i32.const 0)))))
