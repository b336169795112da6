;; trick: _initialize takes a parameter
;; end: refused
(module
  (func (export "_initialize") (param i32))
  (func (export "on_hit") (nop)))
