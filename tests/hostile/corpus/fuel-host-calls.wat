;; trick: a loop of host calls that cost nothing by themselves
;; end: quarantined out of fuel
(module
  (import "trocar" "cpu" (func $cpu (result i32)))
  (func (export "on_hit") (loop (drop (call $cpu)) (br 0))))
