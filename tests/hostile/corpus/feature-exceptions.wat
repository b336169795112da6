;; trick: a throw
;; end: refused exceptions
(module
  (tag $e)
  (func (export "on_hit") (throw $e)))
