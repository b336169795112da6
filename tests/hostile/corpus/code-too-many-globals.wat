;; trick: 1001 globals
;; end: refused globals
(module
;;*1001 (global i64 (i64.const #))

  (func (export "on_hit") (nop)))
