;; trick: a typed reference that is called
;; end: refused references
(module
  (type $t (func))
  (elem declare func $g)
  (func $g)
  (func (export "on_hit") (call_ref $t (ref.func $g))))
