;; trick: the start function floods the ring
;; end: fine
(module
  (import "trocar" "emit" (func $emit (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func $s (local i32) (local.set 0 (i32.const 500)) (loop (call $emit (i32.const 0) (i32.const 0) (i32.const 4096)) (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if 0 (local.get 0))))
  (start $s)
  (func (export "on_hit") (nop)))
