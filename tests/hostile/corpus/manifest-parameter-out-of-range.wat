;; trick: a value over 64 bits
;; end: usage n
;; args: --set n=99999999999999999999999
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"params\":[{\"name\":\"n\",\"type\":\"int\"}]}"))
