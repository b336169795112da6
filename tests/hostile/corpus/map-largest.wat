;; trick: the largest hash map that fits, some keys in it
;; end: fine
(module
  (import "trocar" "hash_add" (func $hash_add (param i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (global (mut i64) (i64.const 0))
  (func (export "on_hit") (global.set 0 (i64.add (global.get 0) (i64.const 1))) (i64.store (i32.const 0) (global.get 0)) (drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 256) (i64.const 1))))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"t\",\"kind\":\"hash\",\"entries\":65536,\"key\":[{\"name\":\"k\",\"type\":\"str\",\"bytes\":256}]}]}"))
