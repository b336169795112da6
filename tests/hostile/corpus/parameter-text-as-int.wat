;; trick: a text parameter asked for as an integer
;; end: fine
(module
  (import "trocar" "param" (func $param (param i32) (result i64)))
  (func (export "on_hit") (drop (call $param (i32.const 1))))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"params\":[{\"name\":\"n\",\"type\":\"int\",\"default\":7},{\"name\":\"s\",\"type\":\"str\",\"default\":\"abc\"}]}"))
