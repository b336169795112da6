;; trick: a name that clears the terminal
;; end: refused there is no
(module
  (import "trocar" "\1b[2J\1b]0;owned\07" (func))
  (func (export "on_hit") (nop)))
