;; trick: a log line that clears the terminal and forges another
;; end: clean
(module
  (import "trocar" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\1b[2J\n{\22kind\22:\22receipt\22}")
  (func (export "on_hit") (call $log (i32.const 0) (i32.const 0) (i32.const 24))))
