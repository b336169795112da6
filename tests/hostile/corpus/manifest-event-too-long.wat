;; trick: an event of 5000 bytes
;; end: refused fields
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"events\":[{\"name\":\"e\",\"fields\":[{\"name\":\"f\",\"type\":\"str\",\"bytes\":5000}]}]}"))
