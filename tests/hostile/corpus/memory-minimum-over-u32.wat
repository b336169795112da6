;; trick: a memory of more pages than 32 bits can address
;; end: refused memory size must be at most
(module
  (memory (export "memory") 65537)
  (func (export "on_hit") (nop)))
