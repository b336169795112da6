;; trick: the same with the thread’s id as a condition that holds
;; end: refused a host call that is exported again
(module
  (func (export "on_hit") (import "trocar" "tid") (result i32)))
