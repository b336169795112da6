;; trick: denormals, which raise flags and take long
;; end: fine
(module
  (func (export "on_hit") (local f64) (local.set 0 (f64.const 0x1p-1074)) (local.set 0 (f64.div (f64.mul (local.get 0) (f64.const 3)) (f64.const 7)))))
