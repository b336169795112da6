;; trick: a text parameter copied behind the memory
;; end: quarantined host call
(module
  (import "trocar" "param_str" (func $param_str (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (call $param_str (i32.const 1) (i32.const 65534) (i32.const 8))))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"params\":[{\"name\":\"n\",\"type\":\"int\",\"default\":7},{\"name\":\"s\",\"type\":\"str\",\"default\":\"abc\"}]}"))
