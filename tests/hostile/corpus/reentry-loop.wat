;; trick: a loop that a signal’s handler hits in the midst of
;; end: quarantined out of fuel
;; target: unsteady
(module
  (func (export "on_hit") (loop (br 0))))
