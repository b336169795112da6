;; trick: keys all over the largest table, so that every page of it may be touched
;; end: quarantined out of fuel
(module
  (import "trocar" "hash_add" (func $hash_add (param i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (global (mut i64) (i64.const 0))
  (func (export "on_hit") (loop (global.set 0 (i64.add (i64.mul (global.get 0) (i64.const 6364136223846793005)) (i64.const 1442695040888963407))) (i64.store (i32.const 0) (global.get 0)) (drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 1))) (br 0)))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"t\",\"kind\":\"hash\",\"entries\":1024,\"key\":[{\"name\":\"k\",\"type\":\"str\",\"bytes\":64}]}]}"))
