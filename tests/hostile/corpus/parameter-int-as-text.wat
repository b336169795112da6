;; trick: an integer parameter asked for as text
;; end: clean
;; args: --set n=-1
(module
  (import "trocar" "param_str" (func $param_str (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (call $param_str (i32.const 0) (i32.const 0) (i32.const 8))))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"params\":[{\"name\":\"n\",\"type\":\"int\",\"default\":7},{\"name\":\"s\",\"type\":\"str\",\"default\":\"abc\"}]}"))
