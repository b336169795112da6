;; trick: no JSON
;; end: refused manifest
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "nonsense"))
