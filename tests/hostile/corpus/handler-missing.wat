;; trick: no handler at all
;; end: refused on_hit
(module
  (func (export "main")))
