;; trick: the export `memory` is a function
;; end: refused exports no memory
(module
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (memory 1)
  (func (export "memory"))
  (func (export "on_hit") (nop)))
