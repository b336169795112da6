;; The grid's probe in WebAssembly text: counts and emits, traps, or never ends, as `mode` says.
(module
  (import "trocar" "param" (func $param (param i32) (result i64)))
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (import "trocar" "counter_add" (func $counter_add (param i32 i32 i64)))
  (import "trocar" "emit" (func $emit (param i32 i32 i32)))
  (memory (export "memory") 1 1)
  (func (export "on_hit") (local $mode i32)
    (local.set $mode (i32.wrap_i64 (call $param (i32.const 0))))
    (if (i32.eq (local.get $mode) (i32.const 1)) (then unreachable))
    (if (i32.eq (local.get $mode) (i32.const 2)) (then (loop $again (br $again))))
    (call $counter_add (i32.const 0) (i32.const 0) (i64.const 1))
    (i64.store (i32.const 0) (call $arg (i32.const 0)))
    (call $emit (i32.const 0) (i32.const 0) (i32.const 8))))
