;; trick: the reserved name
;; end: refused reserved
(module
  (import "trocar" "override" (func (param i64)))
  (func (export "on_hit") (nop)))
