;; trick: map updates while signals hit inside of hits
;; end: clean
;; target: unsteady
(module
  (import "trocar" "hash_add" (func $hash_add (param i32 i32 i32 i64) (result i32)))
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (i64.store (i32.const 0) (i64.and (call $arg (i32.const 1)) (i64.const 7))) (drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 1)))(drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 1)))(drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 1)))(drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 1)))(drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 1)))(drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 1)))(drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 1)))(drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 1))))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"t\",\"kind\":\"hash\",\"entries\":64,\"key\":[{\"name\":\"k\",\"type\":\"str\",\"bytes\":8}]}]}"))
