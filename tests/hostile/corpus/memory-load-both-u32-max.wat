;; trick: address and offset both u32::MAX
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (i64.load offset=4294967295 (i32.const -1)))))
