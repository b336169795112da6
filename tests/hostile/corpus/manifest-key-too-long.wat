;; trick: a key of 257 bytes
;; end: refused key
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"m\",\"kind\":\"hash\",\"key\":[{\"name\":\"k\",\"type\":\"str\",\"bytes\":257}]}]}"))
