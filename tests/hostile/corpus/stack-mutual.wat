;; trick: two functions that call each other without end
;; end: quarantined stack overflow
(module
  (func $a (call $b) (nop))
  (func $b (call $a) (nop))
  (func (export "on_hit") (call $a)))
