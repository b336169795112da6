;; trick: 3 unit(s) of fuel for a handler that needs five
;; end: quarantined out of fuel
;; args: --fuel 3
(module
  (global $n (mut i64) (i64.const 0))
  (func (export "on_hit") (global.set $n (i64.add (i64.const 1) (global.get $n))) (loop (br_if 0 (i32.const 0)))))
