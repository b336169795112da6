;; trick: --memory of 64K: the second page is over it
;; end: quarantined over the limit
;; args: --memory 64K
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (memory.grow (i32.const 1)))))
