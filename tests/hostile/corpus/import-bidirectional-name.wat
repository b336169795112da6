;; trick: a name that turns the writing round
;; end: refused there is no
(module
  (import "trocar" "\e2\80\aeegnahc" (func))
  (func (export "on_hit") (nop)))
