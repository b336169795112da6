;; trick: hash_get of a key that nobody wrote
;; end: fine
(module
  (import "trocar" "hash_get" (func $hash_get (param i32 i32 i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (if (i64.ne (call $hash_get (i32.const 0) (i32.const 0) (i32.const 8)) (i64.const 0)) (then unreachable)))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"t\",\"kind\":\"hash\",\"entries\":64,\"key\":[{\"name\":\"k\",\"type\":\"str\",\"bytes\":8}]}]}"))
