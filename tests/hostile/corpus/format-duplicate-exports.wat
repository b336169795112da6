;; trick: two exports of one name
;; end: refused duplicate export
(module
  (func (export "on_hit"))
  (func (export "on_hit")))
