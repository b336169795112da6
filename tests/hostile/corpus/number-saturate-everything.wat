;; trick: saturating conversions of NaN and infinity
;; end: fine
(module
  (func (export "on_hit") (drop (i32.trunc_sat_f64_s (f64.const nan))) (drop (i64.trunc_sat_f32_u (f32.const inf))) (drop (i32.trunc_sat_f32_s (f32.const -inf)))))
