;; trick: a clock that never goes back
;; end: fine
(module
  (import "trocar" "time_ns" (func $time_ns (result i64)))
  (func (export "on_hit") (local i64) (local.set 0 (call $time_ns)) (if (i64.lt_u (call $time_ns) (local.get 0)) (then unreachable))))
