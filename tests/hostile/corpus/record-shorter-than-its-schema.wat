;; trick: fewer bytes than the schema says
;; end: clean
(module
  (import "trocar" "emit" (func $emit (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") (call $emit (i32.const 0) (i32.const 0) (i32.const 3)))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"events\":[{\"name\":\"e\",\"fields\":[{\"name\":\"a\",\"type\":\"u64\"},{\"name\":\"b\",\"type\":\"str\",\"bytes\":8}]}]}"))
