;; trick: a name of 60 000 bytes
;; end: refused there is no
(module
  (import "trocar" "
;;+6000 0123456789
" (func))
  (func (export "on_hit") (nop)))
