;; trick: eight pointers from the stack, each followed wherever it leads
;; end: clean
(module
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (import "trocar" "reg" (func $reg (param i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (local i64 i32) (local.set 0 (call $reg (i32.const 7))) (local.set 1 (i32.const 4)) (loop (drop (call $read (local.get 0) (i32.const 0) (i32.const 8))) (local.set 0 (i64.load (i32.const 0))) (local.set 1 (i32.sub (local.get 1) (i32.const 1))) (br_if 0 (local.get 1)))))
