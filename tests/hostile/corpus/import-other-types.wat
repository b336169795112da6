;; trick: read with a 32-bit address
;; end: refused is imported as
(module
  (import "trocar" "read" (func (param i32 i32 i32) (result i32)))
  (func (export "on_hit") (nop)))
