;; trick: a histogram behind the last
;; end: quarantined host call
(module
  (import "trocar" "hist_add" (func $hist_add (param i32 i32 i64)))
  (memory (export "memory") 1)
  (func (export "on_hit") (call $hist_add (i32.const 0) (i32.const 2) (i64.const 1)))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"h\",\"kind\":\"hist\",\"entries\":2}]}"))
