;; trick: a trap at every tenth hit of a thread
;; end: quarantined unreachable
(module
  (global $n (mut i32) (i32.const 0))
  (func (export "on_hit") (global.set $n (i32.add (global.get $n) (i32.const 1))) (if (i32.eqz (i32.rem_u (global.get $n) (i32.const 10))) (then unreachable))))
