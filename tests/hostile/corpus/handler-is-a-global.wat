;; trick: on_hit is a global
;; end: refused on_hit
(module
  (global (export "on_hit") i32 (i32.const 0)))
