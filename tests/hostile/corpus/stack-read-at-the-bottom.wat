;; trick: recursion until the limit, with a read at every depth
;; end: quarantined stack overflow
;; args: --fuel 10000000
(module
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (import "trocar" "reg" (func $reg (param i32) (result i64)))
  (memory (export "memory") 1)
  (func $f (drop (call $read (call $reg (i32.const 7)) (i32.const 0) (i32.const 8))) (call $f) (nop))
  (func (export "on_hit") (call $f)))
