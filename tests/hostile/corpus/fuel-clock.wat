;; trick: a loop that asks for the time
;; end: quarantined out of fuel
(module
  (import "trocar" "time_ns" (func $time_ns (result i64)))
  (func (export "on_hit") (loop (drop (call $time_ns)) (br 0))))
