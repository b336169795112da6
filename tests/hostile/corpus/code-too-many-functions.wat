;; trick: 10 001 functions
;; end: refused functions
(module
;;*10001 (func)

  (func (export "on_hit") (nop)))
