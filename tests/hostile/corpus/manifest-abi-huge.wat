;; trick: a version that does not fit
;; end: refused abi
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":99999999999999999999,\"name\":\"p\"}"))
