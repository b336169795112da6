;; trick: 900 types
;; end: fine
(module
;;*900 (type (func (param i32 i64) (result i32)))

  (func (export "on_hit") (nop)))
