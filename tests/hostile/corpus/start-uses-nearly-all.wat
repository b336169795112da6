;; trick: the start function uses nearly all of its ten million units
;; end: fine
(module
  (func $s (local i32) (local.set 0 (i32.const 1100000)) (loop (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if 0 (local.get 0))))
  (start $s)
  (func (export "on_hit") (nop)))
