;; trick: a handler that answers twice
;; end: refused must be
(module
  (func (export "on_hit") (result i32 i32) (i32.const 0) (i32.const 0)))
