;; trick: SIMD
;; end: refused SIMD
(module
  (func (export "on_hit") (drop (i32x4.extract_lane 0 (v128.const i32x4 1 2 3 4)))))
