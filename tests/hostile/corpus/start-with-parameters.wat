;; trick: a start function that takes a parameter
;; end: refused start function
(module
  (func $s (param i32))
  (start $s)
  (func (export "on_hit") (nop)))
