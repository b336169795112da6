;; trick: the empty key
;; end: fine
(module
  (import "trocar" "hash_add" (func $hash_add (param i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 1))))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"t\",\"kind\":\"hash\",\"entries\":64,\"key\":[{\"name\":\"k\",\"type\":\"str\",\"bytes\":8}]}]}"))
