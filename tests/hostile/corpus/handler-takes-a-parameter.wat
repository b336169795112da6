;; trick: a handler that takes a parameter
;; end: refused must be
(module
  (func (export "on_hit") (param i32)))
