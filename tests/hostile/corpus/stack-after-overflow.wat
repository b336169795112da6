;; trick: only every other hit overflows the stack; the third overflow ends it
;; end: quarantined stack overflow
(module
  (global $n (mut i32) (i32.const 0))
  (func $f (call $f) (nop))
  (func (export "on_hit") (global.set $n (i32.add (global.get $n) (i32.const 1))) (if (i32.and (global.get $n) (i32.const 1)) (then (call $f)))))
