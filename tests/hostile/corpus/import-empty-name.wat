;; trick: the empty name
;; end: refused there is no
(module
  (import "trocar" "" (func))
  (func (export "on_hit") (nop)))
