;; trick: a value for a parameter that does not exist
;; end: usage no parameter
;; args: --set n=1
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\"}"))
