;; trick: bytes that are not UTF-8
;; end: refused manifest
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\22abi\22:1,\22name\22:\22\ff\fe\22}"))
