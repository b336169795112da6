;; trick: slow hits, so that signals hit inside of them
;; end: clean
;; args: --fuel 20000
;; target: unsteady
(module
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") 
;;*4 (drop (call $read (call $arg (i32.const 0)) (i32.const 0) (i32.const 4096)))
))
