;; trick: the start function asks for a hit that is not there: zeros
;; end: fine
(module
  (import "trocar" "arg" (func $arg (param i32) (result i64)))
  (import "trocar" "reg" (func $reg (param i32) (result i64)))
  (import "trocar" "ret" (func $ret (result i64)))
  (import "trocar" "site" (func $site (result i32)))
  (import "trocar" "tid" (func $tid (result i32)))
  (func $s (if (i64.ne (call $arg (i32.const 0)) (i64.const 0)) (then unreachable)) (if (i64.ne (call $reg (i32.const 7)) (i64.const 0)) (then unreachable)) (drop (call $ret)) (drop (call $site)) (drop (call $tid)))
  (start $s)
  (func (export "on_hit") (nop)))
