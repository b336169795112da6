;; trick: arrays 20 000 deep
;; end: refused manifest
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "
;;+20000 [
"))
