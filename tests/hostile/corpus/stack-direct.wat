;; trick: a function that calls itself without end
;; end: quarantined stack overflow
(module
  (func $f (export "on_hit") (call $f) (call $f)))
