;; trick: -1 as an unsigned integer
;; end: quarantined integer overflow
(module
  (func (export "on_hit") (drop (i32.trunc_f32_u (f32.const -1)))))
