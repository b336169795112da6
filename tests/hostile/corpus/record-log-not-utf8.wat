;; trick: a log line that is not UTF-8
;; end: clean
(module
  (import "trocar" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\ff\fe\80\c0\00\f5\a0\ed")
  (func (export "on_hit") (call $log (i32.const 2) (i32.const 0) (i32.const 8))))
