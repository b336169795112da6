;; trick: a memory that starts with all there can be
;; end: refused pages
(module
  (memory (export "memory") 65536)
  (func (export "on_hit") (nop)))
