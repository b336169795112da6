;; trick: a host call through the table
;; end: fine
(module
  (import "trocar" "cpu" (func $cpu (result i32)))
  (type $c (func (result i32)))
  (table 1 funcref)
  (elem (i32.const 0) $cpu)
  (func (export "on_hit") (drop (call_indirect (type $c) (i32.const 0)))))
