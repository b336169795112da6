;; trick: a memory with pages of one byte
;; end: refused custom page sizes
(module
  (memory (export "memory") 1 (pagesize 1))
  (func (export "on_hit") (nop)))
