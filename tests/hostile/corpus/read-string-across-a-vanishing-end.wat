;; trick: a string across the end of a mapping that comes and goes
;; end: clean
;; target: unsteady
(module
  (import "trocar" "read_str" (func $read_str (param i64 i32 i32) (result i32)))
  (import "trocar" "reg" (func $reg (param i32) (result i64)))
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (call $read_str (i64.add (call $arg (i32.const 0)) (i64.const 4064)) (i32.const 0) (i32.const 64)))))
