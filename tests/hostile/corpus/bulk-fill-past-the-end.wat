;; trick: memory.fill that ends one byte behind the memory
;; end: quarantined memory access out of bounds
;; args: --fuel 1000000
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (memory.fill (i32.const 0) (i32.const 7) (i32.const 65537))))
