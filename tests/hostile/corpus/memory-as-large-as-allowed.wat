;; trick: 17 pages, all touched
;; end: fine
;; args: --fuel 10000000 --max-core 400
(module
  (memory (export "memory") 17 17)
  (func (export "on_hit") (memory.fill (i32.const 0) (i32.const 1) (i32.const 1114112))))
