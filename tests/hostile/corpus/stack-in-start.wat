;; trick: the start function recurses without end
;; end: refused stack
(module
  (func $f (call $f) (nop))
  (start $f)
  (func (export "on_hit") (nop)))
