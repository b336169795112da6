;; trick: --memory of less than a page
;; end: refused limit
;; args: --memory 4K
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (nop)))
