;; trick: signalling NaNs through every operation leave no flag behind
;; end: fine
(module
  (func (export "on_hit") (drop (f64.sqrt (f64.const nan:0x4000000000000))) (drop (f32.div (f32.const nan:0x200000) (f32.const 0))) (drop (f64.min (f64.const nan:0x4000000000000) (f64.const 1)))))
