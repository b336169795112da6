;; trick: 12 000 instructions without a loop: cut where the function is left or called again
;; end: quarantined out of fuel
(module
  (func $f
;;*4000 (global.set 0 (i32.add (global.get 0) (i32.const #)))
 )
  (global (mut i32) (i32.const 0))
  (func (export "on_hit") (call $f) (call $f) (call $f)))
