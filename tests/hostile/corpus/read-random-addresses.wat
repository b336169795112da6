;; trick: four addresses of a random sequence at every hit
;; end: fine
(module
  (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global (mut i64) (i64.const 88172645463325252))
  (func $next (result i64) (global.set 0 (i64.xor (global.get 0) (i64.shl (global.get 0) (i64.const 13)))) (global.set 0 (i64.xor (global.get 0) (i64.shr_u (global.get 0) (i64.const 7)))) (global.set 0 (i64.xor (global.get 0) (i64.shl (global.get 0) (i64.const 17)))) (global.get 0))
  (func (export "on_hit") 
;;*4 (drop (call $read (call $next) (i32.const 0) (i32.const 64)))
))
