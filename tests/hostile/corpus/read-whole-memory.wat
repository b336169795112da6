;; trick: read of as many bytes as the memory has, more than the stack has
;; end: clean
(module
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (import "trocar" "reg" (func $reg (param i32) (result i64)))
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (call $read (call $reg (i32.const 7)) (i32.const 0) (i32.const 57000)))))
