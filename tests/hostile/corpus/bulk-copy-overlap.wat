;; trick: memory.copy onto itself, one byte on, of all there is
;; end: fine
;; args: --fuel 1000000 --max-core 400
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (memory.copy (i32.const 1) (i32.const 0) (i32.const 65535))))
