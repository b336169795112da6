;; trick: an empty list of handlers is no list: on_hit
;; end: fine
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"handlers\":[]}"))
