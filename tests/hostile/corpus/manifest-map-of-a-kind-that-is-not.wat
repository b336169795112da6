;; trick: a map of an unknown kind
;; end: refused kind
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"m\",\"kind\":\"stack\"}]}"))
