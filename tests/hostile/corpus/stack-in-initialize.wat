;; trick: _initialize recurses without end
;; end: refused stack
(module
  (func $f (export "_initialize") (call $f) (nop))
  (func (export "on_hit") (nop)))
