;; trick: a version that is text
;; end: refused abi
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":\"1\",\"name\":\"p\"}"))
