;; trick: recursion with sixty values alive across the call
;; end: quarantined stack overflow
(module
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (func $f (result i64)
;;*60 (call $arg (i32.const #))
 (call $f)
;;*60 i64.add
 )
  (func (export "on_hit") (drop (call $f))))
