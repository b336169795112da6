;; trick: counters that wrap: 2^63 twice
;; end: fine
(module
  (import "trocar" "counter_add" (func $counter_add (param i32 i32 i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (call $counter_add (i32.const 0) (i32.const 0) (i64.const -9223372036854775808))(call $counter_add (i32.const 0) (i32.const 0) (i64.const -9223372036854775808)))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"c\",\"kind\":\"counter\",\"entries\":4}]}"))
