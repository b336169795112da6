;; trick: records while signals hit inside of hits
;; end: clean
;; target: unsteady
(module
  (import "trocar" "emit" (func $emit (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") 
;;*16 (call $emit (i32.const 0) (i32.const 0) (i32.const 32))
))
