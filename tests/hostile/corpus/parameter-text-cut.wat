;; trick: a text parameter into no room
;; end: fine
(module
  (import "trocar" "param_str" (func $param_str (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") (if (i32.ne (call $param_str (i32.const 1) (i32.const 65536) (i32.const 0)) (i32.const 3)) (then unreachable)))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"params\":[{\"name\":\"n\",\"type\":\"int\",\"default\":7},{\"name\":\"s\",\"type\":\"str\",\"default\":\"abc\"}]}"))
