;; trick: shifts by -1 and by 64
;; end: fine
(module
  (func (export "on_hit") (drop (i64.shl (i64.const 1) (i64.const 64))) (drop (i32.rotl (i32.const 1) (i32.const -1)))))
