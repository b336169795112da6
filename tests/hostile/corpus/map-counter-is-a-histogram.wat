;; trick: a histogram taken for a counter
;; end: quarantined host call
(module
  (import "trocar" "counter_add" (func $counter_add (param i32 i32 i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (call $counter_add (i32.const 0) (i32.const 0) (i64.const 1)))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"h\",\"kind\":\"hist\",\"entries\":2}]}"))
