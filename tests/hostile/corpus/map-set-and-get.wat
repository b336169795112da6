;; trick: hash_set of u64::MAX, and what hash_get says of it
;; end: fine
(module
  (import "trocar" "hash_set" (func $hash_set (param i32 i32 i32 i64) (result i32)))
  (import "trocar" "hash_get" (func $hash_get (param i32 i32 i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (call $hash_set (i32.const 0) (i32.const 0) (i32.const 8) (i64.const -1))) (if (i64.ne (call $hash_get (i32.const 0) (i32.const 0) (i32.const 8)) (i64.const -1)) (then unreachable)))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"t\",\"kind\":\"hash\",\"entries\":64,\"key\":[{\"name\":\"k\",\"type\":\"str\",\"bytes\":8}]}]}"))
