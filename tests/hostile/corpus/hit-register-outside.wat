;; trick: registers that do not exist
;; end: fine
(module
  (import "trocar" "reg" (func $reg (param i32) (result i64)))
  (func (export "on_hit") (if (i64.ne (i64.or (call $reg (i32.const 17)) (call $reg (i32.const -1))) (i64.const 0)) (then unreachable))))
