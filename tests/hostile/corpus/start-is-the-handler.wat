;; trick: the handler is the start function too
;; end: fine
(module
  (func $s (export "on_hit"))
  (start $s))
