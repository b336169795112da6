;; trick: recursion until the limit, with a host call at every depth
;; end: quarantined stack overflow
;; args: --fuel 1000000
(module
  (import "trocar" "time_ns" (func $time_ns (result i64)))
  (func $f (drop (call $time_ns)) (call $f) (nop))
  (func (export "on_hit") (call $f)))
