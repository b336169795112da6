;; trick: more records at every hit than the ring holds
;; end: lossy ring_full
;; args: --fuel 1000000
(module
  (import "trocar" "emit" (func $emit (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "on_hit") (local i32) (local.set 0 (i32.const 150)) (loop (call $emit (i32.const 0) (i32.const 0) (i32.const 4096)) (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if 0 (local.get 0)))))
