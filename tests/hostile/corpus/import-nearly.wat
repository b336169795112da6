;; trick: a name with one letter less
;; end: refused did you mean
(module
  (import "trocar" "emi" (func (param i32 i32 i32)))
  (func (export "on_hit") (nop)))
