;; trick: a parameter without default that nobody gives
;; end: usage --set n=
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"params\":[{\"name\":\"n\",\"type\":\"int\"}]}"))
