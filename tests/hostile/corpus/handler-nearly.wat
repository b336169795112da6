;; trick: on_hti
;; end: refused did you mean
(module
  (func (export "on_hti")))
