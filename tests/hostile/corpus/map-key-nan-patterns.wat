;; trick: keys that are patterns of NaNs: compared as bytes
;; end: fine
(module
  (import "trocar" "hash_add" (func $hash_add (param i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") (f64.store (i32.const 0) (f64.const nan)) (f64.store (i32.const 8) (f64.const nan:0x4000000000000)) (f64.store (i32.const 16) (f64.const -nan)) (drop (call $hash_add (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 1)))(drop (call $hash_add (i32.const 0) (i32.const 8) (i32.const 8) (i64.const 1)))(drop (call $hash_add (i32.const 0) (i32.const 16) (i32.const 8) (i64.const 1))))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"t\",\"kind\":\"hash\",\"entries\":64,\"key\":[{\"name\":\"k\",\"type\":\"str\",\"bytes\":8}]}]}"))
