;; trick: one function with 3000 values alive at once: a frame of 24 KiB
;; end: refused of stack at once
(module
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (func $f (result i64)
;;*3000 (call $arg (i32.const #))
 (drop (call $arg (i32.const 0)))
;;*2999 i64.add
 )
  (func (export "on_hit") (drop (call $f))))
