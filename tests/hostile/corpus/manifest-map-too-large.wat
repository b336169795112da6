;; trick: a map of 65 537 entries
;; end: refused entries
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"m\",\"kind\":\"counter\",\"entries\":65537}]}"))
