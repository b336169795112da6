;; trick: an empty section
;; end: refused manifest
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" ""))
