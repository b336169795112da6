;; trick: a loop of reads: five fit into the fuel of a hit
;; end: quarantined out of fuel
(module
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (import "trocar" "reg" (func $reg (param i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (loop (drop (call $read (call $reg (i32.const 7)) (i32.const 0) (i32.const 8))) (br 0))))
