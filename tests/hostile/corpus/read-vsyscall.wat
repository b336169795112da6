;; trick: read of the vsyscall page: readable or not, no fault
;; end: clean
(module
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (import "trocar" "reg" (func $reg (param i32) (result i64)))
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (call $read (i64.const 0xffffffffff600000) (i32.const 0) (i32.const 8)))))
