;; trick: no name
;; end: refused name
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"\"}"))
