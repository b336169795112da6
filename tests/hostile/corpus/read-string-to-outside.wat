;; trick: a string to behind the memory
;; end: quarantined host call
(module
  (import "trocar" "read_str" (func $read_str (param i64 i32 i32) (result i32)))
  (import "trocar" "reg" (func $reg (param i32) (result i64)))
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (call $read_str (call $reg (i32.const 7)) (i32.const 65530) (i32.const 16)))))
