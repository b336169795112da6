;; trick: a memory that starts with 4096 pages
;; end: refused 4096 pages
(module
  (memory (export "memory") 4096)
  (func (export "on_hit") (nop)))
