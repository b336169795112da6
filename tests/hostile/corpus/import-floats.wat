;; trick: a call that would answer a float
;; end: refused is imported as
(module
  (import "trocar" "time_ns" (func (result f64)))
  (func (export "on_hit") (nop)))
