;; trick: one handler twice
;; end: refused twice
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"handlers\":[{\"name\":\"on_hit\"},{\"name\":\"on_hit\"}]}"))
