;; trick: infinity as an integer
;; end: quarantined integer overflow
(module
  (func (export "on_hit") (drop (i64.trunc_f32_u (f32.const inf)))))
