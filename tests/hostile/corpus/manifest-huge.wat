;; trick: a manifest of 100 000 bytes
;; end: refused manifest
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\22abi\22:1,\22name\22:\22p\22,\22description\22:\22
;;+10000 0123456789
\22}"))
