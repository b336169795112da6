;; trick: a version of the future
;; end: refused abi
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":2,\"name\":\"p\"}"))
