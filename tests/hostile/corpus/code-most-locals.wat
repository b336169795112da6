;; trick: 5000 locals, one used
;; end: fine
(module
  (func (export "on_hit") (local
;;*5000  i64
 ) (local.set 4999 (i64.const 1))))
