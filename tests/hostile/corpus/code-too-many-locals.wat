;; trick: 5001 locals
;; end: refused locals
(module
  (func (export "on_hit") (local
;;*5001  i64
 ) (nop)))
