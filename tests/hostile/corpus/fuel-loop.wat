;; trick: a loop without end
;; end: quarantined out of fuel
(module
  (func (export "on_hit") (loop (br 0))))
