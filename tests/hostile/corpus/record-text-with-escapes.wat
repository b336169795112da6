;; trick: a field of text that clears the terminal
;; end: clean
(module
  (import "trocar" "emit" (func $emit (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "\1b[2J\1b[1m\07")
  (func (export "on_hit") (call $emit (i32.const 0) (i32.const 0) (i32.const 16)))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"events\":[{\"name\":\"e\",\"fields\":[{\"name\":\"a\",\"type\":\"u64\"},{\"name\":\"b\",\"type\":\"str\",\"bytes\":8}]}]}"))
