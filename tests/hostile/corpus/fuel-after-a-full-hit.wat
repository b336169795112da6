;; trick: a hit that uses nearly all of it leaves nothing behind for the next, which has its own
;; end: fine
(module
  (func (export "on_hit") (local i32) (local.set 0 (i32.const 1200)) (loop (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if 0 (local.get 0)))))
