;; trick: a call that takes addresses, and a memory that is not exported as `memory`
;; end: refused exports no memory
(module
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (memory (export "mem") 1)
  (func (export "on_hit") (nop)))
