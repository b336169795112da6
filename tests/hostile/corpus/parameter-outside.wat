;; trick: integer and text parameters that do not exist: zero, and nothing
;; end: fine
(module
  (import "trocar" "param" (func $param (param i32) (result i64)))
  (import "trocar" "param_str" (func $param_str (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") (if (i64.ne (call $param (i32.const -1)) (i64.const 0)) (then unreachable)) (if (call $param_str (i32.const 99) (i32.const 0) (i32.const 8)) (then unreachable)))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"params\":[{\"name\":\"n\",\"type\":\"int\",\"default\":7},{\"name\":\"s\",\"type\":\"str\",\"default\":\"abc\"}]}"))
