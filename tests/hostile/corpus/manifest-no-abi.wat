;; trick: no version
;; end: refused abi
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"name\":\"p\"}"))
