;; trick: a condition of -1 holds
;; end: fine
(module
  (func (export "on_hit") (result i32) (i32.const -1)))
