;; trick: a call tree of 2^30 leaves, forty functions deep at most
;; end: quarantined out of fuel
(module
  (func $f (param i32) (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1))) (call $f (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "on_hit") (call $f (i32.const 30))))
