;; trick: recursion whose way is chosen by br_table
;; end: quarantined stack overflow
(module
  (func $f (param i32) (block (block (block (br_table 0 1 2 (i32.and (local.get 0) (i32.const 3)))) (call $f (i32.add (local.get 0) (i32.const 1))) (return)) (call $f (i32.add (local.get 0) (i32.const 1))) (return)) (call $f (i32.add (local.get 0) (i32.const 1))) (nop))
  (func (export "on_hit") (call $f (i32.const 0))))
