;; trick: a condition that never holds
;; end: fine
(module
  (func (export "on_hit") (result i32) (i32.const 0)))
