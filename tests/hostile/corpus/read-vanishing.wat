;; trick: read of a mapping that another thread unmaps and maps again
;; end: clean
;; target: unsteady
(module
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (import "trocar" "reg" (func $reg (param i32) (result i64)))
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (call $read (call $arg (i32.const 0)) (i32.const 0) (i32.const 64)))))
