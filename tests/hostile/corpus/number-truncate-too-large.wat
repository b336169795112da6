;; trick: 2^31 as an i32
;; end: quarantined integer overflow
(module
  (func (export "on_hit") (drop (i32.trunc_f64_s (f64.const 2147483648)))))
