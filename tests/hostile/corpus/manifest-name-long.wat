;; trick: a name of 70 letters
;; end: refused name
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}"))
