;; trick: argument u32::MAX and argument 6: zero
;; end: fine
(module
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (func (export "on_hit") (if (i64.ne (i64.or (call $arg (i32.const -1)) (call $arg (i32.const 6))) (i64.const 0)) (then unreachable))))
