;; trick: a call with two results
;; end: refused is imported as
(module
  (import "trocar" "cpu" (func (result i32 i32)))
  (func (export "on_hit") (nop)))
