;; trick: a histogram of precision 40
;; end: refused precision
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"m\",\"kind\":\"hist\",\"precision\":40}]}"))
