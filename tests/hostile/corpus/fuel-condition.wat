;; trick: a condition that loops for ever never holds and is not counted as false
;; end: quarantined out of fuel
(module
  (func (export "on_hit") (result i32) (loop (br 0)) (i32.const 0)))
