;; trick: on_hit is the memory
;; end: refused on_hit
(module
  (memory (export "on_hit") 1))
