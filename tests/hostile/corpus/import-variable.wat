;; trick: a variable of the target
;; end: refused variable
(module
  (import "trocar:var" "order.total" (func (result i64)))
  (func (export "on_hit") (nop)))
