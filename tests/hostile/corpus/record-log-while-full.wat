;; trick: log lines until the fuel ends
;; end: quarantined out of fuel
(module
  (import "trocar" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") (loop (call $log (i32.const 1) (i32.const 0) (i32.const 8)) (br 0))))
