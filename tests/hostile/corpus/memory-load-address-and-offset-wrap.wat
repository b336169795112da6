;; trick: address and offset together are 2^32: not zero
;; end: quarantined memory access out of bounds
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (i32.load8_u offset=4294967295 (i32.const 1)))))
