;; trick: a name that forges a line
;; end: refused there is no
(module
  (import "trocar" "x\n{\"kind\":\"receipt\"}" (func))
  (func (export "on_hit") (nop)))
