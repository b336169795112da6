;; trick: a field that asks for more than there is
;; end: refused root
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"root\":true}"))
