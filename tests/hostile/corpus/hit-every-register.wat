;; trick: every register at once
;; end: fine
(module
  (import "trocar" "reg" (func $reg (param i32) (result i64)))
  (func (export "on_hit") 
;;*17 (drop (call $reg (i32.const #)))
))
