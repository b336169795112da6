;; trick: a host call through the table, taken for another
;; end: quarantined wrong type
(module
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (type $c (func (result i32)))
  (table 1 funcref)
  (elem (i32.const 0) $read)
  (func (export "on_hit") (drop (call_indirect (type $c) (i32.const 0)))))
