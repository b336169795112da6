;; trick: a stack overflow that a signal’s handler hits in the midst of
;; end: quarantined stack overflow
;; target: unsteady
(module
  (func $f (call $f) (call $f))
  (func (export "on_hit") (call $f)))
