;; trick: a name that leads out of a folder
;; end: refused name
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"../../etc/passwd\"}"))
