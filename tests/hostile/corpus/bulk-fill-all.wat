;; trick: memory.fill of the whole memory, once a hit
;; end: fine
;; args: --fuel 1000000 --max-core 400
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536))))
