;; trick: read of the kernel’s text
;; end: fine
(module
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (import "trocar" "reg" (func $reg (param i32) (result i64)))
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (if (i32.ne (call $read (i64.const 0xffffffff81000000) (i32.const 0) (i32.const 8)) (i32.const -14)) (then unreachable))))
