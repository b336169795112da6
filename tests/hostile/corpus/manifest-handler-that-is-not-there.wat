;; trick: a handler that is not exported
;; end: refused on_his
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"handlers\":[{\"name\":\"on_his\"}]}"))
