;; trick: recursion with floats alive across the call
;; end: quarantined stack overflow
(module
  (func $f (param f64) (result f64) (f64.add (f64.mul (local.get 0) (f64.const 3)) (call $f (f64.add (local.get 0) (f64.const 1)))))
  (func (export "on_hit") (drop (call $f (f64.const 0)))))
