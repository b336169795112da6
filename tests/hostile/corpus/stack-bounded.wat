;; trick: a recursion of depth 200 that ends
;; end: fine
(module
  (func $f (param i32) (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "on_hit") (call $f (i32.const 200))))
